use std::fmt;
use std::str::FromStr;

/// Where the user asks a model to run: `auto`, `cpu`, `cuda`, `cuda:0,2` or `cuda:all`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceSpec {
    /// CUDA when usable, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// These CUDA ordinals; empty means the first device.
    Cuda(Vec<u32>),
    /// Every CUDA device.
    CudaAll,
}

/// A device name that is none of the known forms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a device: use auto, cpu, cuda, cuda:0,1 or cuda:all")]
pub struct ParseDeviceError(pub String);

impl FromStr for DeviceSpec {
    type Err = ParseDeviceError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let bad = || ParseDeviceError(s.to_owned());
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(Vec::new())),
            "cuda:all" => Ok(Self::CudaAll),
            _ => {
                let ordinals = s.strip_prefix("cuda:").ok_or_else(bad)?;
                let ordinals = ordinals.split(',').map(|o| o.parse().map_err(|_| bad()));
                Ok(Self::Cuda(ordinals.collect::<Result<_, _>>()?))
            }
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::CudaAll => f.write_str("cuda:all"),
            Self::Cuda(ordinals) => {
                f.write_str("cuda")?;
                for (i, o) in ordinals.iter().enumerate() {
                    write!(f, "{}{o}", if i == 0 { ':' } else { ',' })?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_parse_and_print_back() {
        for s in ["auto", "cpu", "cuda", "cuda:0", "cuda:0,3", "cuda:all"] {
            assert_eq!(s.parse::<DeviceSpec>().unwrap().to_string(), s);
        }
        for s in ["", "gpu", "cuda:", "cuda:x", "cuda:0,", "CPU"] {
            assert!(s.parse::<DeviceSpec>().is_err(), "{s}");
        }
    }
}
