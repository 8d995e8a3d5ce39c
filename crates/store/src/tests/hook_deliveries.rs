//! Deliveries to incoming webhooks.

use super::*;

#[test]
fn a_delivery_has_one_run_within_a_day() {
    let f = fixture();
    let run = NewRun::of_push(
        "app".parse().unwrap(),
        "refs/heads/main".parse().unwrap(),
        "1".repeat(40).parse().unwrap(),
        f.store.clock().now(),
    );
    let deliver = |hook: &str, delivery: Option<&str>| {
        let delivery = HookDelivery {
            hook: hook.to_owned(),
            delivery: delivery.map(str::to_owned),
        };
        let (id, is_repeated) = f
            .store
            .hook_deliveries()
            .enqueue(&delivery, &run, supersede::superseded_runs)
            .unwrap();
        let known = f.store.hook_deliveries().run_of(&delivery).unwrap();
        assert_eq!(known, delivery.delivery.map(|_| id));
        (id, is_repeated)
    };
    let (first, is_repeated) = deliver("deploy", Some("d1"));
    assert!(!is_repeated);
    assert_eq!(deliver("deploy", Some("d1")), (first, true));
    assert!(!deliver("deploy", Some("d2")).1);
    assert!(!deliver("other", Some("d1")).1);
    assert!(!deliver("deploy", None).1 && !deliver("deploy", None).1);
    f.clock.fetch_add(24 * 3600 * 1000 + 1, Ordering::SeqCst);
    let (later, is_repeated) = deliver("deploy", Some("d1"));
    assert!(!is_repeated && later != first);
}
