//! The storage settings of a server, and as few combinations of them as have all pairs of settings.

use std::collections::BTreeSet;
use std::fmt;

use compat_tests::installation::Series;
use innodb::encrypted::CipherMode;

use crate::tables::Table;

const PAGES_KIB: [u64; 5] = [4, 8, 16, 32, 64];

/// `innodb_checksum_algorithm`. Servers from 10.6 on have the first four.
const CHECKSUMS: [&str; 8] = [
    "full_crc32",
    "strict_full_crc32",
    "crc32",
    "strict_crc32",
    "innodb",
    "strict_innodb",
    "none",
    "strict_none",
];

/// Algorithms of page compression. 10.5 of Debian has the first three.
const COMPRESSIONS: [&str; 6] = ["zlib", "lz4", "snappy", "lzo", "lzma", "bzip2"];

/// What is encrypted, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Nothing.
    None,
    /// Tables that ask for it, by `aes_ctr`.
    Tables,
    /// The redo log, by `aes_cbc`.
    Log,
    /// Everything, by `aes_cbc`.
    AllCbc,
    /// Everything, by `aes_ctr`.
    AllCtr,
}

/// A combination. A server has tables of every row format that it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    pub series: Series,
    pub page_kib: u64,
    pub encryption: Encryption,
    pub checksums: &'static str,
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { series, page_kib, encryption, checksums } = self;
        write!(f, "{series}, {page_kib}k, {encryption:?}, {checksums}")
    }
}

impl Config {
    /// All combinations that there are.
    fn all() -> Vec<Self> {
        use Encryption::{AllCbc, AllCtr, Log, None, Tables};
        let mut all = Vec::new();
        for series in [Series::V10_11, Series::V11_8, Series::V10_5] {
            let checksums = if series == Series::V10_5 { &CHECKSUMS[..] } else { &CHECKSUMS[..4] };
            for &checksums in checksums {
                for page_kib in PAGES_KIB {
                    for encryption in [None, Tables, Log, AllCbc, AllCtr] {
                        all.push(Self { series, page_kib, encryption, checksums });
                    }
                }
            }
        }
        all
    }

    /// All pairs of settings of such a server and its tables.
    fn pairs(&self) -> BTreeSet<[String; 2]> {
        let settings = [
            self.series.to_string(),
            format!("{}k", self.page_kib),
            format!("{:?}", self.encryption),
            self.checksums.to_owned(),
        ];
        let mut pairs = BTreeSet::new();
        for (place, a) in settings.iter().enumerate() {
            pairs.extend(settings[..place].iter().map(|b| [b.clone(), a.clone()]));
        }
        for table in self.tables() {
            pairs.extend(settings.iter().map(|setting| [setting.clone(), table.format.clone()]));
        }
        pairs
    }

    /// As few combinations as have every pair; of those that have as many new ones, the first.
    pub fn covering() -> Vec<Self> {
        let all = Self::all();
        let mut missing: BTreeSet<_> = all.iter().flat_map(Self::pairs).collect();
        let mut chosen = Vec::new();
        while !missing.is_empty() {
            let new = |config: &&Self| config.pairs().intersection(&missing).count();
            // The last of the greatest is taken.
            let best = all.iter().rev().max_by_key(new).expect("there are combinations");
            missing.retain(|pair| !best.pairs().contains(pair));
            chosen.push(*best);
        }
        chosen
    }

    /// Options of the server.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec![
            format!("--innodb-page-size={}k", self.page_kib),
            format!("--innodb-checksum-algorithm={}", self.checksums),
            "--innodb-log-file-size=64M".to_owned(),
            "--innodb-buffer-pool-size=128M".to_owned(),
        ];
        if self.series != Series::V10_5 {
            options.extend(compat_tests::server::PROVIDERS.map(str::to_owned));
        }
        let more: &[&str] = match self.encryption {
            Encryption::None => return options,
            Encryption::Tables => &["--innodb-encryption-threads=1"],
            Encryption::Log => &["--innodb-encrypt-log=ON"],
            Encryption::AllCbc | Encryption::AllCtr => &[
                "--innodb-encrypt-log=ON",
                "--innodb-encrypt-tables=ON",
                "--innodb-encryption-threads=4",
                "--aria-encrypt-tables=ON",
            ],
        };
        options.extend(crate::key_options(self.cipher_mode()));
        options.extend(more.iter().map(|&option| option.to_owned()));
        options
    }

    /// How keys are used, where there are any.
    pub fn cipher_mode(&self) -> CipherMode {
        match self.encryption {
            Encryption::Log | Encryption::AllCbc => CipherMode::Cbc,
            Encryption::None | Encryption::Tables | Encryption::AllCtr => CipherMode::Ctr,
        }
    }

    /// Whether everything gets encrypted.
    pub fn encrypts_all(&self) -> bool {
        matches!(self.encryption, Encryption::AllCbc | Encryption::AllCtr)
    }

    /// A table of each row format.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables: Vec<Table> = ["redundant", "compact", "dynamic"]
            .map(|format| Table::new(format, &format!("ROW_FORMAT={format}")))
            .to_vec();
        for kib in [1, 2, 4, 8, 16] {
            if self.page_kib <= 16 && kib <= self.page_kib {
                let definition = format!("ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE={kib}");
                tables.push(Table::new(&format!("zip_{kib}"), &definition));
            }
        }
        let count = if self.series == Series::V10_5 { 3 } else { COMPRESSIONS.len() };
        for algorithm in &COMPRESSIONS[..count] {
            tables.push(Table::new(&format!("pc_{algorithm}"), "PAGE_COMPRESSED=1"));
        }
        // Two keys in turn; where everything is encrypted, some say nothing or the contrary.
        for (number, table) in tables.iter_mut().enumerate() {
            table.definition += match (self.encryption, number % 4) {
                (Encryption::None | Encryption::Log, _) => "",
                (Encryption::Tables, 0 | 2) | (_, 0) => " ENCRYPTED=YES",
                (Encryption::Tables, _) | (_, 1) => " ENCRYPTED=YES ENCRYPTION_KEY_ID=2",
                (_, 2) => "",
                (_, _) => " ENCRYPTED=NO",
            };
        }
        tables
    }
}

#[test]
fn combinations_have_all_pairs_of_settings() {
    let pairs =
        |configs: &[Config]| -> BTreeSet<_> { configs.iter().flat_map(Config::pairs).collect() };
    let covering = Config::covering();
    assert_eq!(pairs(&Config::all()), pairs(&covering));
    // No combination but one has all three of these.
    let count = covering.len();
    assert!((40..60).contains(&count), "{count}");
    // Each setting is among those that are tried each time.
    let settings =
        |configs: &[Config]| -> BTreeSet<_> { pairs(configs).into_iter().flatten().collect() };
    assert_eq!(settings(&covering[..crate::EACH_TIME]), settings(&covering));
    for config in &covering {
        println!("{config}");
    }
}
