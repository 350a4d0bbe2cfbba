//! One value of any column, byte by byte: to count and to compare.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, downcast_primitive_array};
use arrow_schema::{ArrowError, DataType};

use crate::Result;

/// Hands the bytes of row `i` to `take`: equal values give equal bytes, and different ones do not,
/// however the array is laid out.
///
/// # Errors
/// For a type that no column of the output has.
pub(crate) fn feed(array: &dyn Array, i: usize, take: &mut dyn FnMut(&[u8])) -> Result<()> {
    let text = |bytes: &[u8], take: &mut dyn FnMut(&[u8])| {
        take(&(bytes.len() as u32).to_le_bytes());
        take(bytes);
    };
    if array.data_type() == &DataType::Null || array.is_null(i) {
        take(&[0]);
        return Ok(());
    }
    take(&[1]);
    downcast_primitive_array!(
        array => {
            // The values of any primitive type as they lie in memory.
            let bytes = array.values().inner().as_slice();
            let width = bytes.len() / array.len();
            take(&bytes[i * width..(i + 1) * width]);
        },
        DataType::Boolean => take(&[u8::from(array.as_boolean().value(i))]),
        DataType::Utf8 => text(array.as_string::<i32>().value(i).as_bytes(), take),
        DataType::Binary => text(array.as_binary::<i32>().value(i), take),
        DataType::FixedSizeBinary(_) => take(array.as_fixed_size_binary().value(i)),
        DataType::List(_) => list(&array.as_list::<i32>().value(i), take)?,
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(i), take)?,
        DataType::Map(..) => {
            let entries = array.as_map().value(i);
            list(&(std::sync::Arc::new(entries) as ArrayRef), take)?;
        },
        DataType::Struct(_) => {
            for column in array.as_struct().columns() {
                feed(column, i, take)?;
            }
        },
        kind => return Err(ArrowError::NotYetImplemented(format!("a column of type {kind}")).into()),
    );
    Ok(())
}

fn list(items: &ArrayRef, take: &mut dyn FnMut(&[u8])) -> Result<()> {
    take(&(items.len() as u32).to_le_bytes());
    (0..items.len()).try_for_each(|i| feed(items, i, take))
}

/// About how many bytes row `i` takes in all `columns`; it depends on the values alone.
///
/// # Errors
/// As for [`feed`].
pub(crate) fn bytes_of(columns: &[ArrayRef], i: usize) -> Result<usize> {
    let mut bytes = 0;
    for column in columns {
        feed(column, i, &mut |part| bytes += part.len())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int32Type;
    use arrow_array::{DictionaryArray, ListArray, StringArray};

    use super::*;

    fn bytes(array: &dyn Array, i: usize) -> Vec<u8> {
        let mut all = Vec::new();
        feed(array, i, &mut |part| all.extend_from_slice(part)).unwrap();
        all
    }

    #[test]
    fn bytes_depend_on_the_value_alone_and_tell_values_apart() {
        let texts = StringArray::from(vec![Some("ab"), None, Some(""), Some("ab")]);
        assert_eq!(bytes(&texts, 0), bytes(&texts.slice(3, 1), 0));
        assert_ne!(bytes(&texts, 1), bytes(&texts, 2));
        let lists = [vec![Some(1), Some(2)], vec![], vec![Some(1)], vec![None]];
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists.into_iter().map(Some));
        let two = |i, j| [bytes(&lists, i), bytes(&lists, j)].concat();
        assert_ne!(two(0, 1), two(2, 2));
        assert_ne!(bytes(&lists, 2), bytes(&lists, 3));
        assert_eq!(bytes_of(&[Arc::new(texts) as ArrayRef, Arc::new(lists)], 0).unwrap(), 7 + 1 + 4 + 2 * 5);
    }

    #[test]
    fn a_type_that_no_output_has_is_an_error() {
        let array: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
        let error = bytes_of(&[Arc::new(array)], 0).unwrap_err().to_string();
        assert!(error.contains("Dictionary(Int32, Utf8)"), "{error}");
    }
}
