//! Pages of real files for the tests of this crate; `testdata/10.11/README.md` tells their origin.

/// The page in `testdata/10.11`/`name`.
pub(crate) fn page(name: &str) -> Vec<u8> {
    let path = format!("{}/testdata/10.11/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
