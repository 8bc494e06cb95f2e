//! Runs one target under libFuzzer: the one that `FUZZ_TARGET` names. Built by `cargo xtask fuzz`,
//! with instrumentation; without it, writes the inputs to begin with.

#![cfg_attr(fuzzing, no_main)]

use std::alloc::System;

use cap::Cap;

/// Makes an allocation that exceeds what targets may take a failure.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, 4 * fuzz::MEMORY);

#[cfg(fuzzing)]
mod guided {
    use std::sync::OnceLock;

    use fuzz::Target;
    use libfuzzer_sys::fuzz_target;

    static TARGET: OnceLock<&Target> = OnceLock::new();

    fuzz_target!(|data: &[u8]| {
        let target = TARGET.get_or_init(|| {
            let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
            fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name} is no target"))
        });
        (target.run)(data);
    });
}

/// `fuzz` lists the targets, `fuzz TARGET DIR` writes the inputs to begin with into a folder.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [name, dir] => {
            let Some(target) = fuzz::target(name) else {
                return Err(std::io::Error::other(format!("there is no target {name}")));
            };
            std::fs::create_dir_all(dir)?;
            for (number, seed) in (target.seeds)().iter().enumerate() {
                std::fs::write(format!("{dir}/seed-{number}"), seed)?;
            }
        }
        _ => fuzz::TARGETS.iter().for_each(|target| println!("{}", target.name)),
    }
    Ok(())
}
