//! `(ci.service name {:image … :env … :command … :ready … :ready-within …})`

use super::call::{MAX_CALLS, RegistrationCall};
use crate::Service;
use quire_types::text::excerpt_name;

const SIGNATURE: &str =
    "write it like (ci.service :db {:image \"postgres:18\" :ready [\"pg_isready\"]})";
const OPTIONS: [&str; 5] = ["image", "env", "command", "ready", "ready-within"];
const DEFAULT_READY_WITHIN_MS: u64 = 60_000;

pub(super) fn service(call: &mut RegistrationCall<'_>) -> Option<String> {
    let name = call.text(call.argument(0), "a service's name", SIGNATURE)?;
    let of = format!("service `{}`", excerpt_name(&name));
    let value = call.argument(1);
    let options = call.options(&of, value, &OPTIONS);
    let image = call.option(&options, &of, "image", |call, what, value| {
        call.text(Some(value), what, SIGNATURE)
    });
    if image.is_none() && !options.contains_key("image") {
        call.problem_with_hint(format!("{of} has no :image"), SIGNATURE);
    }
    let service = Service {
        env: call
            .option(&options, &of, "env", RegistrationCall::variables)
            .unwrap_or_default(),
        command: call.option(&options, &of, "command", RegistrationCall::command),
        ready: call.option(&options, &of, "ready", RegistrationCall::command),
        ready_within_ms: call
            .option(&options, &of, "ready-within", RegistrationCall::duration)
            .unwrap_or(DEFAULT_READY_WITHIN_MS),
        image: image?,
        name,
    };
    let mut registration = call.api.registration.borrow_mut();
    if registration.services.len() < MAX_CALLS {
        registration.services.push((service, call.location.clone()));
    }
    None
}
