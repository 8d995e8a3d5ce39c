//! The fuzz targets' corpus, replayed with the stable compiler: what once was found stays found.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/targets.rs"]
mod targets;

#[test]
fn what_must_hold_of_foreign_bytes_holds_for_the_corpus() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut names: Vec<_> = fs::read_dir(fuzz.join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    let names: Vec<_> = names
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, targets::ALL.map(|(name, _)| name));
    for (name, target) in targets::ALL {
        let files: Vec<_> = fs::read_dir(fuzz.join("corpus").join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(files.len() >= 3, "{name} has no corpus");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            println!("{}", file.display());
            target(&bytes);
            // Cut and changed a little, for more ways at no cost.
            for at in (0..bytes.len()).step_by((bytes.len() / 64).max(1)) {
                target(&bytes[..at]);
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                target(&changed);
            }
        }
        target(b"");
    }
}
