//! The threads on which repositories are read.

use std::path::PathBuf;
use std::time::Duration;

use super::super::*;
use super::odd_repository::*;

#[tokio::test]
async fn a_pool_survives_panics_and_notices_new_repositories() {
    let pool = ReadPool::default();
    let read = |folder: PathBuf| {
        pool.read(folder, budget(10), |reader, _| {
            Ok(reader.head()?.map(|rev| rev.commit))
        })
    };
    let mut odd = Odd::new();
    let first = odd.commit("First");
    for _ in 0..4 {
        let panicked = pool
            .read(odd.git_dir(), budget(1), |_, _| -> Result<(), ReadError> {
                panic!("on purpose")
            })
            .await;
        assert!(matches!(panicked, Err(ReadError::Panicked)));
    }
    assert_eq!(read(odd.git_dir()).await.unwrap(), Some(first));
    // Another repository takes the place of this one.
    let mut other = Odd::new();
    let second = other.commit("Second");
    std::fs::remove_dir_all(odd.git_dir()).unwrap();
    assert!(matches!(
        read(odd.git_dir()).await,
        Err(ReadError::Open { .. })
    ));
    std::fs::rename(other.git_dir(), odd.git_dir()).unwrap();
    assert_eq!(read(odd.git_dir()).await.unwrap(), Some(second));
    let over = Budget::new(Duration::ZERO, 1, 1);
    let late = pool.read(odd.git_dir(), over, |_, _| Ok(())).await;
    assert!(matches!(late, Err(ReadError::OutOfTime)));
}
