//! The batch API of Git LFS: what is asked, and what an answer means. No I/O.

use std::collections::BTreeMap;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use serde::{Deserialize, Serialize};

use quire_git::lfs::{LfsDirection, LfsPointer};
use quire_types::http_url::HttpUrl;
use quire_types::text::{excerpt, single_line};

/// The media type of requests and answers.
pub(super) const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";
/// How long what the other side says of an object may be in a message, in characters.
const MAX_WORDS: usize = 200;

/// How many headers an action may have, and how long they may be, in bytes: a server accepts no more.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 16 << 10;

/// Headers that belong to the connection and not to the one who names them.
const OWN_HEADERS: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

#[derive(Serialize)]
struct BatchJson<'a> {
    operation: &'static str,
    transfers: [&'static str; 1],
    objects: Vec<ObjectJson<'a>>,
    hash_algo: &'static str,
}

#[derive(Serialize)]
struct ObjectJson<'a> {
    oid: &'a str,
    size: u64,
}

#[derive(Deserialize)]
struct AnswerJson {
    #[serde(default)]
    transfer: Option<String>,
    objects: Vec<ObjectAnswerJson>,
}

#[derive(Deserialize)]
struct ObjectAnswerJson {
    oid: String,
    #[serde(default)]
    authenticated: Option<bool>,
    #[serde(default)]
    actions: Option<ActionsJson>,
    #[serde(default)]
    error: Option<ErrorJson>,
}

#[derive(Default, Deserialize)]
struct ActionsJson {
    #[serde(default)]
    upload: Option<ActionJson>,
    #[serde(default)]
    download: Option<ActionJson>,
    #[serde(default)]
    verify: Option<ActionJson>,
}

#[derive(Deserialize)]
struct ActionJson {
    href: String,
    #[serde(default)]
    header: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct ErrorJson {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

/// What has to be done with an object.
#[derive(Debug)]
pub(super) struct PlannedObject<'a> {
    pub(super) pointer: &'a LfsPointer,
    pub(super) step: ObjectStep,
}

#[derive(Debug)]
pub(super) enum ObjectStep {
    /// The other side has it.
    Nothing,
    Transfer(Box<ObjectTransfer>),
    /// The other side has no such object.
    Missing,
    Refused(String),
}

/// The requests that transfer an object.
#[derive(Debug)]
pub(super) struct ObjectTransfer {
    pub(super) action: LfsAction,
    /// A request that has to follow an upload.
    pub(super) verify: Option<LfsAction>,
}

/// A request that the other side asks for.
#[derive(Debug)]
pub(super) struct LfsAction {
    pub(super) url: HttpUrl,
    pub(super) headers: HeaderMap,
    /// Whether the other side says that it needs no login.
    pub(super) is_authenticated: bool,
}

/// The body of a request.
pub(super) fn request(direction: LfsDirection, objects: &[LfsPointer]) -> Vec<u8> {
    let objects = objects.iter().map(object_json).collect();
    let request = BatchJson {
        operation: direction.as_str(),
        transfers: ["basic"],
        objects,
        hash_algo: "sha256",
    };
    serde_json::to_vec(&request).unwrap_or_default()
}

/// The body of a request that follows an upload.
pub(super) fn verification(object: &LfsPointer) -> Vec<u8> {
    serde_json::to_vec(&object_json(object)).unwrap_or_default()
}

fn object_json(object: &LfsPointer) -> ObjectJson<'_> {
    ObjectJson {
        oid: object.oid.as_str(),
        size: object.size,
    }
}

/// What an answer means for each object that was asked about. An error says what is wrong with it.
pub(super) fn parse<'a>(
    direction: LfsDirection,
    answer: &[u8],
    asked: &'a [LfsPointer],
) -> Result<Vec<PlannedObject<'a>>, String> {
    let answer: AnswerJson =
        serde_json::from_slice(answer).map_err(|error| format!("it is no such answer: {error}"))?;
    match answer.transfer.as_deref() {
        None | Some("" | "basic") => {}
        Some(other) => {
            let other = excerpt(&single_line(other), MAX_WORDS);
            return Err(format!(
                "it asks for the transfer `{other}` in place of `basic`"
            ));
        }
    }
    let mut answers: BTreeMap<String, ObjectAnswerJson> = BTreeMap::new();
    for object in answer.objects {
        if !asked.iter().any(|one| one.oid.as_str() == object.oid) {
            return Err("it names an object that was not asked about".to_owned());
        }
        answers.insert(object.oid.clone(), object);
    }
    asked
        .iter()
        .map(|pointer| {
            let answer = answers.remove(pointer.oid.as_str());
            let step = step(direction, answer)?;
            Ok(PlannedObject { pointer, step })
        })
        .collect()
}

fn step(direction: LfsDirection, answer: Option<ObjectAnswerJson>) -> Result<ObjectStep, String> {
    let not_mentioned = || ObjectStep::Refused("the other side said nothing about it".to_owned());
    let Some(answer) = answer else {
        return Ok(not_mentioned());
    };
    if let Some(ErrorJson { code, message }) = answer.error {
        let words = excerpt(&single_line(&message), MAX_WORDS);
        return Ok(match (direction, code) {
            (LfsDirection::Download, 404 | 410) => ObjectStep::Missing,
            _ => ObjectStep::Refused(format!("{code} {words}")),
        });
    }
    let is_authenticated = answer.authenticated == Some(true);
    let action = |json: ActionJson| action(json, is_authenticated);
    let actions = answer.actions.unwrap_or_default();
    let (asked, verify) = match direction {
        LfsDirection::Upload => (actions.upload, actions.verify),
        LfsDirection::Download => (actions.download, None),
    };
    match (asked, direction) {
        (Some(asked), _) => Ok(ObjectStep::Transfer(Box::new(ObjectTransfer {
            action: action(asked)?,
            verify: verify.map(action).transpose()?,
        }))),
        (None, LfsDirection::Upload) => Ok(ObjectStep::Nothing),
        (None, LfsDirection::Download) => Ok(not_mentioned()),
    }
}

fn action(json: ActionJson, is_authenticated: bool) -> Result<LfsAction, String> {
    let url = json
        .href
        .parse()
        .map_err(|error| format!("an address in it is {error}"))?;
    Ok(LfsAction {
        url,
        headers: headers(json.header.unwrap_or_default())?,
        is_authenticated,
    })
}

/// Headers that the other side names. Their values may be secrets.
pub(super) fn headers(named: BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let bytes = |(name, value): (&String, &String)| name.len() + value.len();
    if named.len() > MAX_HEADERS || named.iter().map(bytes).sum::<usize>() > MAX_HEADER_BYTES {
        return Err("it has too many headers".to_owned());
    }
    let mut headers = HeaderMap::new();
    for (name, value) in named {
        let invalid = || "a header in it is not valid".to_owned();
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| invalid())?;
        value.set_sensitive(true);
        if !OWN_HEADERS.contains(&name) {
            headers.try_insert(name, value).map_err(|_| invalid())?;
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(digit: char) -> LfsPointer {
        LfsPointer {
            oid: digit.to_string().repeat(64).parse().unwrap(),
            size: 12,
        }
    }

    fn shown(direction: LfsDirection, objects: &str) -> String {
        let asked = [pointer('a'), pointer('b')];
        let answer = objects
            .replace("AAA", asked[0].oid.as_str())
            .replace("BBB", asked[1].oid.as_str());
        let planned = match parse(direction, answer.as_bytes(), &asked) {
            Ok(planned) => planned,
            Err(problem) => return problem,
        };
        let line = |planned: PlannedObject<'_>| match planned.step {
            ObjectStep::Transfer(transfer) => format!(
                "{} {:?} {} verify {:?}",
                transfer.action.url.origin(),
                transfer.action.headers.keys().collect::<Vec<_>>(),
                transfer.action.is_authenticated,
                transfer.verify.map(|verify| verify.url.origin())
            ),
            step => format!("{step:?}"),
        };
        planned
            .into_iter()
            .map(line)
            .collect::<Vec<_>>()
            .join(" | ")
    }

    #[test]
    fn answers_say_what_is_to_be_done() {
        let upload = |objects: &str| shown(LfsDirection::Upload, objects);
        let download = |objects: &str| shown(LfsDirection::Download, objects);
        let action = r#"{"href": "https://h/x", "header": {"Authorization": "Basic x", "Host": "evil", "Transfer-Encoding": "chunked"}, "expires_in": 5}"#;
        insta::assert_snapshot!([
            upload(&format!(r#"{{"objects": [{{"oid": "AAA", "size": 12, "authenticated": true, "actions": {{"upload": {action}, "verify": {{"href": "https://v/"}}}}}}, {{"oid": "BBB"}}]}}"#)),
            upload(r#"{"transfer": "basic", "objects": [{"oid": "BBB", "error": {"code": 422, "message": "too\nlarge"}}]}"#),
            download(&format!(r#"{{"objects": [{{"oid": "AAA", "actions": {{"download": {action}}}}}, {{"oid": "BBB", "error": {{"code": 404, "message": "no"}}}}]}}"#)),
            download(r#"{"objects": [{"oid": "AAA", "actions": {}}, {"oid": "BBB", "error": {"code": 403, "message": "no"}}]}"#),
            upload(r#"{"transfer": "tus", "objects": []}"#),
            upload(r#"{"objects": [{"oid": "ccc"}]}"#),
            upload(r#"{"objects": [{"oid": "AAA", "actions": {"upload": {"href": "file:///etc/passwd"}}}]}"#),
            upload(r#"{"objects": [{"oid": "AAA", "actions": {"upload": {"href": "https://h/", "header": {"a b": "c"}}}}]}"#),
            upload("<html>"),
        ].join("\n"));
    }

    #[test]
    fn too_many_headers_are_no_answer() {
        let upload = |headers: BTreeMap<String, String>| {
            let action = serde_json::json!({"href": "https://h/", "header": headers});
            let object = serde_json::json!({"oid": "AAA", "actions": {"upload": action}});
            let answer = serde_json::json!({"objects": [object]});
            shown(LfsDirection::Upload, &answer.to_string())
        };
        let many = |count: usize| {
            (0..count)
                .map(|n| (format!("x-{n}"), String::new()))
                .collect()
        };
        let long = |size: usize| BTreeMap::from([("x".to_owned(), "v".repeat(size - 1))]);
        let problem = "it has too many headers";
        // A map of headers has room for fewer than these.
        assert_eq!(upload(many(40_000)), problem);
        assert_eq!(upload(many(MAX_HEADERS + 1)), problem);
        assert_eq!(upload(long(MAX_HEADER_BYTES + 1)), problem);
        for accepted in [many(MAX_HEADERS), long(MAX_HEADER_BYTES)] {
            assert_ne!(upload(accepted), problem);
        }
    }

    #[test]
    fn requests_name_ids_and_sizes() {
        let text = String::from_utf8(request(LfsDirection::Upload, &[pointer('a')])).unwrap();
        insta::assert_snapshot!(text.replace(&"a".repeat(64), "AAA"), @r#"{"operation":"upload","transfers":["basic"],"objects":[{"oid":"AAA","size":12}],"hash_algo":"sha256"}"#);
    }
}
