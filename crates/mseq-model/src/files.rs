use std::fs::{self, File};
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::weights::metadata;
use crate::{Error, Result};

/// Something to read tensors from.
pub trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// The files of one model: a directory, one file, or bytes inside the program.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A directory.
    Dir(PathBuf),
    /// A safetensors file whose `__metadata__` holds the config.
    File(PathBuf),
    /// A built-in model.
    Builtin {
        /// Its name.
        name: &'static str,
        /// File names and contents.
        files: &'static [(&'static str, &'static [u8])],
    },
}

fn file_name(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

impl ModelFiles {
    /// The directory at `path`, or the safetensors file there that holds its config.
    ///
    /// # Errors
    /// When there is none, or it is another file.
    pub fn at(path: &Path) -> Result<Self> {
        let is_safetensors = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
        if is_safetensors && fs::metadata(path).is_ok_and(|meta| meta.is_file()) {
            return Ok(Self::File(path.to_owned()));
        }
        Self::dir(path)
    }

    /// The directory at `path`.
    ///
    /// # Errors
    /// When there is none, or it is a file.
    pub fn dir(path: &Path) -> Result<Self> {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Ok(Self::Dir(path.to_owned())),
            Ok(_) => Err(Error::Config {
                path: path.display().to_string(),
                message: "is a file; give the directory that holds config.json and *.safetensors, or one \
                          .safetensors file with its config inside"
                    .into(),
            }),
            Err(_) => Err(Error::NoSuchModel { path: path.display().to_string() }),
        }
    }

    /// The model as the user named it.
    pub fn name(&self) -> String {
        match self {
            Self::Dir(path) | Self::File(path) => path.display().to_string(),
            Self::Builtin { name, .. } => (*name).to_owned(),
        }
    }

    /// A file as a message names it.
    pub(crate) fn path(&self, file: &str) -> String {
        match self {
            Self::Dir(path) => path.join(file).display().to_string(),
            Self::File(path) if file == "config.json" => format!("{}: __metadata__.config", path.display()),
            Self::File(path) => path.display().to_string(),
            Self::Builtin { name, .. } => format!("{name}:{file}"),
        }
    }

    /// File names, bytewise sorted.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        match self {
            Self::Dir(path) => {
                let io = |source| Error::Io { path: path.display().to_string(), source };
                for entry in fs::read_dir(path).map_err(io)? {
                    names.push(entry.map_err(io)?.file_name().to_string_lossy().into_owned());
                }
            }
            Self::File(path) => names.extend(file_name(path)),
            Self::Builtin { files, .. } => names.extend(files.iter().map(|(name, _)| (*name).to_owned())),
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a file; `None` when it is not there.
    ///
    /// # Errors
    /// When it is there and can't be opened.
    pub fn open(&self, file: &str) -> Result<Option<Box<dyn ReadSeek>>> {
        match self {
            Self::Dir(path) => match File::open(path.join(file)) {
                Ok(f) => Ok(Some(Box::new(f))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(Error::Io { path: self.path(file), source }),
            },
            Self::File(path) => {
                let mut reader = match File::open(path) {
                    Ok(f) => Box::new(f),
                    Err(source) => return Err(Error::Io { path: path.display().to_string(), source }),
                };
                if file == "config.json" {
                    let config = metadata(reader.as_mut(), &path.display().to_string(), "config")?;
                    return Ok(
                        config.map(|text| Box::new(Cursor::new(text.into_bytes())) as Box<dyn ReadSeek>)
                    );
                }
                Ok((file_name(path).as_deref() == Some(file)).then_some(reader as Box<dyn ReadSeek>))
            }
            Self::Builtin { files, .. } => {
                let found = files.iter().find(|(name, _)| *name == file);
                Ok(found.map(|(_, bytes)| Box::new(Cursor::new(*bytes)) as Box<dyn ReadSeek>))
            }
        }
    }

    /// The whole of a small file; `None` when it is not there.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub fn read(&self, file: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut reader) = self.open(file)? else { return Ok(None) };
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|source| Error::Io { path: self.path(file), source })?;
        Ok(Some(bytes))
    }

    /// Names of the weight files, in name order: those of the index, else `model.safetensors`,
    /// else every `*.safetensors`.
    ///
    /// # Errors
    /// When there is none, or the index is broken.
    pub fn weight_files(&self) -> Result<Vec<String>> {
        if let Some(index) = self.json("model.safetensors.index.json")? {
            let path = || self.path("model.safetensors.index.json");
            let map = index.get("weight_map").and_then(|m| m.as_object());
            let map =
                map.ok_or_else(|| Error::Config { path: path(), message: "no object weight_map".into() })?;
            let mut files: Vec<String> = map.values().filter_map(|f| f.as_str()).map(str::to_owned).collect();
            files.sort_unstable();
            files.dedup();
            // A shard is a plain file name: an index can't reach outside its directory.
            if let Some(bad) = files.iter().find(|f| f.contains(['/', '\\'])) {
                let message = format!("shard '{bad}' is not a file name");
                return Err(Error::Config { path: path(), message });
            }
            return Ok(files);
        }
        let names = self.names()?;
        if names.iter().any(|n| n == "model.safetensors") {
            return Ok(vec!["model.safetensors".into()]);
        }
        let files: Vec<String> = names.iter().filter(|n| n.ends_with(".safetensors")).cloned().collect();
        if !files.is_empty() {
            return Ok(files);
        }
        let pickled = names.iter().find(|n| [".bin", ".pt", ".pth", ".ckpt"].iter().any(|e| n.ends_with(e)));
        let (file, hint) = match pickled {
            Some(_) => (
                "*.safetensors".to_owned(),
                "its pickled weights are never executed: save them as safetensors first \
                 (safetensors.torch.save_file)",
            ),
            None => ("model.safetensors".to_owned(), "put the weights beside config.json"),
        };
        Err(Error::MissingFile { model: self.name(), file, hint })
    }

    /// A JSON file; `None` when it is not there.
    ///
    /// # Errors
    /// When it can't be read or parsed.
    pub(crate) fn json(&self, file: &str) -> Result<Option<serde_json::Value>> {
        let Some(bytes) = self.read(file)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            // serde_json ends its message with the place, which the error names by itself.
            let message = e.to_string();
            let message = message.split(" at line ").next().unwrap_or_default().to_owned();
            Error::Json { path: self.path(file), line: e.line(), column: e.column(), message }
        })
    }

    /// SHA-256 of config, tokeniser files and weight files, in name order, as hex.
    ///
    /// Each file goes in as its name, a zero byte, its length (u64, little endian) and its bytes.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn sha256(&self) -> Result<String> {
        let mut files = self.weight_files()?;
        for name in ["config.json", "tokenizer_config.json", "tokenizer.json", "vocab.txt"] {
            files.push(name.to_owned());
        }
        files.sort_unstable();
        let mut digest = Sha256::new();
        for name in files {
            let Some(mut reader) = self.open(&name)? else { continue };
            let io = |source| Error::Io { path: self.path(&name), source };
            let len = reader.seek(std::io::SeekFrom::End(0)).map_err(io)?;
            reader.rewind().map_err(io)?;
            digest.update(name.as_bytes());
            digest.update([0]);
            digest.update(len.to_le_bytes());
            let mut block = vec![0u8; 1 << 20];
            loop {
                let n = reader.read(&mut block).map_err(io)?;
                if n == 0 {
                    break;
                }
                digest.update(&block[..n]);
            }
        }
        Ok(digest.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }
}
