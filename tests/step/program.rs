//! The program as a file.

use quire_step_program::PROGRAM;

/// The largest size: it is sent to every engine.
const MAX_SIZE: usize = 210_000;

#[test]
fn the_program_is_small_and_needs_no_library() {
    assert!(PROGRAM.len() <= MAX_SIZE, "{} bytes", PROGRAM.len());
    let format = quire_step::program_format(PROGRAM);
    let quire_step::ProgramFormat::Elf { loader, .. } = format else {
        panic!("{format:?}");
    };
    assert_eq!(loader, b"", "the program is linked dynamically");
    // The program headers of a 64-bit file; type 2 is the table of dynamic linking.
    let number = |at: usize, length: usize| {
        let bytes = PROGRAM[at..at + length].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let types: Vec<_> = (0..count).map(|i| number(table + i * size, 4)).collect();
    assert!(types.contains(&1) && !types.contains(&2), "{types:?}");
}
