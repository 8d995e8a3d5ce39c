//! Timers as descriptors, which are waited for like any other.

use core::time::Duration;

use rustix::event::Timespec;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// A timer that is not set. Its clock runs while the machine sleeps.
pub(crate) fn create() -> Result<OwnedFd, Errno> {
    timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)
}

/// Makes the timer readable after this time, once.
pub(crate) fn set(timer: &OwnedFd, time: Duration) -> Result<(), Errno> {
    let value = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec::try_from(time).map_err(|_| Errno::INVAL)?,
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &value).map(drop)
}

pub(crate) fn start(time: Duration) -> Result<OwnedFd, Errno> {
    let timer = create()?;
    set(&timer, time)?;
    Ok(timer)
}
