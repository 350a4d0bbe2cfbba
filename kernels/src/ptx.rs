use crate::manifest::{Module, ParamType};

/// Compares the entry points of compiled PTX, and their `.param` lists, with the manifest's.
///
/// # Errors
/// What differs, in a line.
pub fn check_ptx(module: &Module, ptx: &str) -> Result<(), String> {
    let mut found = 0;
    for piece in ptx.split(".visible .entry ").skip(1) {
        let (name, rest) = piece.split_once('(').ok_or("an entry without parameters")?;
        let (list, _) = rest.split_once(')').ok_or("a parameter list without an end")?;
        let name = name.trim();
        let entry = module.entry(name).ok_or_else(|| format!("{name} is not in the manifest"))?;
        found += 1;
        let types: Vec<&str> =
            list.split(".param").skip(1).filter_map(|p| p.split_whitespace().next()).collect();
        if types.len() != entry.params.len() {
            return Err(format!("{name} takes {} parameters, not {}", types.len(), entry.params.len()));
        }
        for (ty, param) in types.iter().zip(entry.params) {
            let wanted: &[&str] = match param.ty {
                ParamType::In(_) | ParamType::MaybeIn(_) | ParamType::Out(_) => &[".u64", ".b64"],
                ParamType::I64 => &[".u64", ".s64", ".b64"],
                ParamType::I32 => &[".u32", ".s32", ".b32"],
                ParamType::F32 => &[".f32", ".b32"],
            };
            if !wanted.contains(ty) {
                return Err(format!("{name}: {} is {ty}, not {:?}", param.name, param.ty));
            }
        }
    }
    if found == module.entries.len() {
        Ok(())
    } else {
        Err(format!("{} has {found} entry points, not {}", module.name, module.entries.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::MODULES;
    use crate::{BinaryKind, Target, find};

    #[test]
    fn committed_ptx_has_the_parameters_of_the_manifest() {
        for module in MODULES {
            for &storage in module.storages() {
                // Compute capability 11.0 has no machine code here, so it gets the PTX.
                let binary = find(module.name, storage, (11, 0)).unwrap();
                assert_eq!((binary.kind, binary.target), (BinaryKind::Ptx, Target::Ptx(80)));
                let text = String::from_utf8(binary.bytes).unwrap();
                assert_eq!(check_ptx(module, &text), Ok(()));
            }
        }
    }

    #[test]
    fn differences_are_named() {
        let module = crate::module("embed_tokens").unwrap();
        let entry = |params: &str| format!(".visible .entry embed_tokens(\n{params}\n)\n{{ }}");
        let params = [".u64 a", ".u64 b", ".u64 .ptr .align 1 c", ".s64 d", ".u32 e"];
        let good = params.map(|p| format!(".param {p}")).join(",\n");
        assert_eq!(check_ptx(module, &entry(&good)), Ok(()));
        let error = |params: &str| check_ptx(module, &entry(params)).unwrap_err();
        assert_eq!(error(&good.replace(".u32 e", ".f32 e")), "embed_tokens: d_model is .f32, not I32");
        assert_eq!(error(".param .u64 a"), "embed_tokens takes 1 parameters, not 5");
        assert!(check_ptx(module, "").unwrap_err().starts_with("embed_tokens has 0 entry points"));
        let other = entry(&good).replace("embed_tokens", "else_tokens");
        assert_eq!(check_ptx(module, &other).unwrap_err(), "else_tokens is not in the manifest");
    }
}
