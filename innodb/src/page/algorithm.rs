//! The setting that decides which checksums are accepted.

use std::fmt;
use std::str::FromStr;

/// `innodb_checksum_algorithm`. Decides what is accepted in files older than `full_crc32`; the
/// pages of `full_crc32` files have their own checksum whatever the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChecksumAlgorithm {
    /// Accepts all formulas.
    Crc32,
    /// Accepts CRC-32C alone.
    StrictCrc32,
    /// Accepts all formulas. The default of the server.
    #[default]
    FullCrc32,
    /// Accepts CRC-32C alone.
    StrictFullCrc32,
    /// Up to 10.5: accepts all formulas.
    Innodb,
    /// Up to 10.5: accepts the old formula alone.
    StrictInnodb,
    /// Up to 10.5: compares no checksum at all.
    None,
    /// Up to 10.5: accepts the constant alone that stands for no checksum.
    StrictNone,
}

impl ChecksumAlgorithm {
    pub(super) const NAMES: [(&str, Self); 8] = [
        ("crc32", Self::Crc32),
        ("strict_crc32", Self::StrictCrc32),
        ("full_crc32", Self::FullCrc32),
        ("strict_full_crc32", Self::StrictFullCrc32),
        ("innodb", Self::Innodb),
        ("strict_innodb", Self::StrictInnodb),
        ("none", Self::None),
        ("strict_none", Self::StrictNone),
    ];

    pub(super) fn accepts_crc32(self) -> bool {
        !matches!(self, Self::StrictInnodb | Self::StrictNone)
    }

    pub(super) fn accepts_innodb(self) -> bool {
        !matches!(self, Self::StrictCrc32 | Self::StrictFullCrc32 | Self::StrictNone)
    }

    pub(super) fn accepts_none(self) -> bool {
        !matches!(self, Self::StrictCrc32 | Self::StrictFullCrc32 | Self::StrictInnodb)
    }
}

impl FromStr for ChecksumAlgorithm {
    type Err = UnknownAlgorithm;

    /// Takes the value of the server variable, in any case.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let known = Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|&(_, algorithm)| algorithm).ok_or_else(|| UnknownAlgorithm(name.to_owned()))
    }
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, known)| known == self).map(|&(name, _)| name);
        f.write_str(name.unwrap_or_default())
    }
}

/// No server has a checksum algorithm of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown checksum algorithm `{0}`")]
pub struct UnknownAlgorithm(String);

#[cfg(test)]
mod tests {
    use super::ChecksumAlgorithm as Algorithm;
    use super::*;

    #[test]
    fn names() {
        for (name, algorithm) in Algorithm::NAMES {
            assert_eq!(name.parse(), Ok(algorithm));
            assert_eq!(name.to_uppercase().parse(), Ok(algorithm));
            assert_eq!(algorithm.to_string(), name);
        }
        assert_eq!("md5".parse::<Algorithm>(), Err(UnknownAlgorithm("md5".to_owned())));
        assert_eq!(Algorithm::default(), Algorithm::FullCrc32);
    }
}
