//! `(ci.service name {:image … :env … :command … :ready … :ready-within …})`

use super::super::arguments::excerpt;
use super::call::{Call, MAX_KEPT};
use crate::pipeline::Service;

const FORM: &str =
    "write it like (ci.service :db {:image \"postgres:18\" :ready [\"pg_isready\"]})";
const OPTIONS: [&str; 5] = ["image", "env", "command", "ready", "ready-within"];
/// How long a service may take to be ready where it does not say, in milliseconds.
const READY_WITHIN_MS: u64 = 60_000;

pub(super) fn service(call: &mut Call<'_>) -> Option<String> {
    let name = call.text(call.argument(0), "a service's name", FORM)?;
    let of = format!("service `{}`", excerpt(&name));
    let value = call.argument(1);
    let options = call.options(&of, value, &OPTIONS);
    let image = call.option(&options, &of, "image", |call, what, value| {
        call.text(Some(value), what, FORM)
    });
    if image.is_none() && !options.contains_key("image") {
        call.advise(format!("{of} has no :image"), FORM);
    }
    let service = Service {
        env: call
            .option(&options, &of, "env", Call::variables)
            .unwrap_or_default(),
        command: call.option(&options, &of, "command", Call::command),
        ready: call.option(&options, &of, "ready", Call::command),
        ready_within_ms: call
            .option(&options, &of, "ready-within", Call::duration)
            .unwrap_or(READY_WITHIN_MS),
        image: image?,
        name,
    };
    let mut registration = call.host.registration.borrow_mut();
    if registration.services.len() < MAX_KEPT {
        registration.services.push((service, call.place.clone()));
    }
    None
}
