//! Values of a column as bytes, whatever text type it has.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

/// Whether [`text`] reads a column of this type.
pub(super) fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_text(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        _ => false,
    }
}

/// Whether [`id`] reads a column of this type.
pub(super) fn is_id(kind: &DataType) -> bool {
    is_text(kind) || kind.is_integer()
}

/// The text of a row; `None` when it is null.
pub(super) fn text(array: &ArrayRef, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).as_bytes(),
        DataType::Utf8View => array.as_string_view().value(row).as_bytes(),
        DataType::Binary => array.as_binary::<i32>().value(row),
        DataType::LargeBinary => array.as_binary::<i64>().value(row),
        DataType::BinaryView => array.as_binary_view().value(row),
        DataType::Dictionary(..) => {
            let (values, key) = dictionary(array, row)?;
            return text(values, key);
        }
        _ => return None,
    })
}

/// The id of a row: its text or its number; `None` when it is null.
pub(super) fn id(array: &ArrayRef, row: usize) -> Option<Cow<'_, str>> {
    if is_text(array.data_type()) {
        return text(array, row).map(String::from_utf8_lossy);
    }
    integer(array, row).map(|n| Cow::Owned(n.to_string()))
}

fn integer(array: &ArrayRef, row: usize) -> Option<i128> {
    fn value<T: ArrowPrimitiveType<Native: Into<i128>>>(array: &ArrayRef, row: usize) -> Option<i128> {
        Some(array.as_primitive_opt::<T>()?.value(row).into())
    }
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Int8 => value::<Int8Type>(array, row),
        DataType::Int16 => value::<Int16Type>(array, row),
        DataType::Int32 => value::<Int32Type>(array, row),
        DataType::Int64 => value::<Int64Type>(array, row),
        DataType::UInt8 => value::<UInt8Type>(array, row),
        DataType::UInt16 => value::<UInt16Type>(array, row),
        DataType::UInt32 => value::<UInt32Type>(array, row),
        DataType::UInt64 => value::<UInt64Type>(array, row),
        _ => None,
    }
}

/// The values of a dictionary column, and which of them a row has.
fn dictionary(array: &ArrayRef, row: usize) -> Option<(&ArrayRef, usize)> {
    let any = array.as_any_dictionary_opt()?;
    // A slice of keys of one row is no copy.
    let keys = any.keys().slice(row, 1);
    Some((any.values(), usize::try_from(integer(&keys, 0)?).ok()?))
}
