//! Tests that mount disks of their own: each starts itself again in a mount namespace that
//! nobody else sees, and that goes with it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use quire_testkit::{skipped, transcript, wait_for};

/// Set where the test runs within.
const INSIDE: &str = "QUIRE_TEST_OWN_MOUNTS";

/// Whether disks that only root may mount, and cgroups, can be had; fails where they cannot and nobody said so.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(
        root || skipped("root"),
        "only root can mount this disk or make this cgroup: run as root, or name `root` in QUIRE_SKIP"
    );
    root
}

/// Runs this test again where it may mount; gives the folder to do so in, within.
pub(crate) fn within(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return Some(folder.into());
    }
    let folder = tempfile::Builder::new()
        .prefix("quire-disk-")
        .tempdir()
        .unwrap();
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test]);
    let output = command.env(INSIDE, folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", transcript(&output));
    assert!(
        transcript(&output).contains("1 passed"),
        "{}",
        transcript(&output)
    );
    println!("{}", transcript(&output));
    None
}

/// Runs this test again with a small disk in memory; gives its folder, within.
pub(crate) fn on_a_small_disk(test: &str, megabytes: u32) -> Option<PathBuf> {
    let folder = within(test)?;
    run(
        "mount",
        &[
            "-t",
            "tmpfs",
            "-o",
            &format!("size={megabytes}m"),
            "tmpfs",
            folder.to_str().unwrap(),
        ],
    );
    Some(folder)
}

/// Takes up space, in steps of a page.
pub(crate) struct Ballast {
    file: File,
    pub(crate) size: u64,
}

impl Ballast {
    pub(crate) const PAGE: u64 = 4096;

    /// All that there is.
    pub(crate) fn all(disk: &Path) -> Self {
        let mut file = File::create(disk.join("ballast")).unwrap();
        let page = [0xa5; Self::PAGE as usize];
        while file.write_all(&page).is_ok() {}
        let size = file.metadata().unwrap().len();
        Self { file, size }
    }

    /// Gives some pages back.
    pub(crate) fn give(&mut self, pages: u64) {
        self.size = self.size.saturating_sub(pages * Self::PAGE);
        self.file.set_len(self.size).unwrap();
    }
}

/// Runs a program that must succeed.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        transcript(&output)
    );
}

/// A real file system on a disk of its own, in a file.
pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) folder: PathBuf,
    options: &'static str,
}

impl Disk {
    pub(crate) fn new(folder: &Path, options: &'static str) -> Self {
        Self::made_with(folder, &[], options)
    }

    /// One that has room for this many files and folders.
    pub(crate) fn with_inodes(folder: &Path, count: u32) -> Self {
        Self::made_with(folder, &["-N", &count.to_string()], "noatime")
    }

    fn made_with(folder: &Path, arguments: &[&str], options: &'static str) -> Self {
        let image = folder.join("disk.img");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(256 << 20)
            .unwrap();
        let fixed = ["-q", "-F", "-m", "0", image.to_str().unwrap()];
        run("mkfs.ext4", &[arguments, &fixed].concat());
        let disk = Self {
            image,
            folder: folder.join("disk"),
            options,
        };
        std::fs::create_dir_all(&disk.folder).unwrap();
        disk.mount();
        disk
    }

    /// Mounting replays the journal, as after a power cut.
    pub(crate) fn mount(&self) {
        run(
            "mount",
            &[
                "-o",
                &format!("loop,{}", self.options),
                self.image.to_str().unwrap(),
                self.folder.to_str().unwrap(),
            ],
        );
    }

    /// From here on nothing reaches the disk, and what had not is lost.
    pub(crate) fn cut(&self) {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
        let script = r#"open(my $f, "<", $ARGV[0]) or die; my $how = pack("L", 2); ioctl($f, 0x8004587d, $how) or die "$!""#;
        run("perl", &["-e", script, self.folder.to_str().unwrap()]);
    }

    /// The file system finds a fault in itself: with `errors=remount-ro` it turns read-only, whatever is open.
    pub(crate) fn fail(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == self.folder.to_str())
            .unwrap();
        let device = line.split(' ').next().unwrap().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "a test").unwrap();
    }

    /// Repairs what [`Disk::fail`] marked, while it is not mounted.
    pub(crate) fn repair(&self) {
        let repaired = Command::new("e2fsck")
            .args(["-p", "-f"])
            .arg(&self.image)
            .output()
            .unwrap();
        assert!(
            repaired.status.code().is_some_and(|code| code <= 1),
            "{}",
            transcript(&repaired)
        );
    }

    pub(crate) fn unmount(&self) {
        wait_for("the disk to be free", || {
            Command::new("umount")
                .arg(&self.folder)
                .output()
                .unwrap()
                .status
                .success()
                .then_some(())
        });
    }
}
