//! Landings as a person sees them.

use quire_store::Landing;
use quire_types::landing::LandingState;

/// How far a commit has come that is to land on a branch, as a sentence without its end.
#[must_use]
pub fn sentence(landing: &Landing) -> String {
    let branch = landing.branch.short();
    let message = landing.message.as_deref();
    match landing.state {
        LandingState::Landed => format!("landed on {branch} as {}", landing.tested_sha.short()),
        LandingState::Failed | LandingState::Canceled => format!(
            "did not land on {branch}: {}",
            message.unwrap_or("it was ended")
        ),
        LandingState::Moving => format!("is landing on {branch}"),
        LandingState::Testing => match message {
            Some(waits) => format!("lands on {branch}, and {waits}"),
            None => format!("lands on {branch} when its run is green"),
        },
    }
}

#[cfg(test)]
mod tests {
    use quire_types::clock::Millis;
    use quire_types::landing::LandingMethod;
    use quire_types::names::EventId;

    use super::*;

    #[test]
    fn each_state_in_a_sentence() {
        let said = |state, message: Option<&str>| {
            sentence(&Landing {
                id: 1,
                repo: "app".parse().unwrap(),
                branch: "refs/heads/main".parse().unwrap(),
                method: LandingMethod::Merge,
                pusher: None,
                pushed_sha: "1".repeat(40).parse().unwrap(),
                tested_sha: "2".repeat(40).parse().unwrap(),
                event_id: EventId::new(),
                state,
                base_sha: None,
                move_event_id: None,
                message: message.map(str::to_owned),
                created_at_ms: Millis(0),
                ended_at_ms: None,
            })
        };
        let waits = "waits until the commits that were pushed before it have landed";
        insta::assert_debug_snapshot!(
            [
                said(LandingState::Testing, None),
                said(LandingState::Testing, Some(waits)),
                said(LandingState::Moving, None),
                said(LandingState::Landed, None),
                said(LandingState::Failed, Some("its run failed")),
                said(LandingState::Canceled, Some("its run was canceled")),
            ],
            @r#"
        [
            "lands on main when its run is green",
            "lands on main, and waits until the commits that were pushed before it have landed",
            "is landing on main",
            "landed on main as 222222222222",
            "did not land on main: its run failed",
            "did not land on main: its run was canceled",
        ]
        "#
        );
    }
}
