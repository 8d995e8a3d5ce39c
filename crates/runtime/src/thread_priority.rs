//! The priority of threads.

/// How much nicer than the rest of the process a background thread is, in the steps of nice(1).
const BACKGROUND: i32 = 10;

/// Lets other threads and processes have the processor before the calling thread, from now on: without privileges a thread cannot raise
/// its priority again.
pub fn enter_background() {
    // Linux has a priority for each thread. Lowering it cannot fail, and without it the work is done all the same.
    let _ = rustix::process::nice(BACKGROUND);
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_the_thread_that_asks_is_in_the_background() {
        let before = getpriority_process(None).unwrap();
        let background = std::thread::spawn(|| {
            enter_background();
            getpriority_process(None).unwrap()
        });
        assert_eq!(background.join().unwrap(), (before + BACKGROUND).min(19));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
