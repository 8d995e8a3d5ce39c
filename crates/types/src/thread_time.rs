//! The processor time of a thread.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The processor time that the calling thread has used since it was started; zero if the system does not tell it.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_thread_counts_its_work() {
        let begin = thread_cpu_time();
        let mut sum = 0_u64;
        while thread_cpu_time() == begin {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(thread_cpu_time() > begin);
    }
}
