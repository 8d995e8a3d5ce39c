//! What a job's function may do, and what becomes of the job.

use quire_pipeline::driver::protocol::EncodedBytes;
use serde_json::json;

use super::support::*;

#[tokio::test]
async fn plain_lines_stop_at_the_first_failure() {
    let story = job("(sh \"true\")\n(sh \"false --x\")\n(sh \"never\")", usual).await;
    assert_eq!(
        story.end("a"),
        "4:1: `false --x` failed with exit code 1 [1]"
    );
    assert_eq!(story.commands, ["a: true", "a: false --x"]);
}

#[tokio::test]
async fn a_failure_that_nobody_looked_at_fails_the_job() {
    for (body, expected) in [
        // Goes on, returns something else, or returns nothing.
        (
            "(sh :false)\n42",
            "3:1: `false` failed with exit code 1 [1]",
        ),
        ("(local r (sh [:false \"a b\"]))\nnil", "complete null"),
        (
            "(local r (sh \"exit 7\"))\nr.stdout",
            "3:10: `exit 7` failed with exit code 7 [7]",
        ),
        // In a tail call, whose frame Lua drops.
        (
            r#"(sh "exit 2")"#,
            "3:1: `exit 2` failed with exit code 2 [2]",
        ),
        // In a helper function, itself called last.
        (
            "(fn step [c]\n  (sh c))\n(step \"true\")\n(step \"exit 3\")",
            "4:3: `exit 3` failed with exit code 3 [3]",
        ),
        // In a loop.
        (
            "(each [_ c (ipairs [:true :false :never])]\n  (sh c))",
            "4:3: `false` failed with exit code 1 [1]",
        ),
        // pcall cannot hide it.
        (
            "(pcall sh :false)\n(pcall #(sh :true))\n1",
            "3:8: `false` failed with exit code 1 [1]",
        ),
        (
            "(pcall #(do (sh :false) (sh :true)))\n1",
            "3:13: `false` failed with exit code 1 [1]",
        ),
        // Looking at something else is not looking.
        (
            "(let [{: stdout} (sh :false)] stdout)",
            "3:18: `false` failed with exit code 1 [1]",
        ),
        // Two of them: the first one counts.
        (
            "(local (a b) (values (sh :false) 1))\n(sh \"exit 9\")",
            "3:22: `false` failed with exit code 1 [1]",
        ),
    ] {
        let found = end(body).await;
        if body.contains("a b\"") {
            // `["false", "a b"]` is not `false` to the script.
            assert_eq!(found, expected, "{body}");
            continue;
        }
        assert_eq!(found, expected, "{body}");
    }
}

#[tokio::test]
async fn a_failure_that_was_looked_at_is_the_authors() {
    for body in [
        "(local r (sh :false)) (if (= r.exit 1) (sh :true)) 1",
        "(let [{: exit} (sh :false)] (sh :true) 1)",
        "(match (sh :false) {:exit 0} :no {:exit e} 1)",
        "(case (sh :false) {:exit 1} 1 _ :no)",
        "(local r (sh :false)) (local t {:kept r}) (when (not= t.kept.exit 0) 1)",
        "(local r (sh :false)) (each [k v (pairs r)] nil) 1",
        "(local r (sh :false)) (var k (next r)) (while k (set k (next r k))) 1",
        "(local r (sh :false)) (rawget r :exit) 1",
        "(local (ok r) (pcall sh :false)) (if (= r.exit 1) 1)",
        "(fn fails [c] (not= 0 (. (sh c) :exit))) (if (fails :false) 1)",
        "(local r (. [(sh :false)] 1)) (tostring (. r :exit)) 1",
        "(local co (coroutine.wrap #(let [r (sh :false)] (coroutine.yield r.exit) 1))) (co) (co)",
        "(accumulate [n 0 _ c (ipairs [:false :false])] (+ n (. (sh c) :exit))) 1",
    ] {
        assert_eq!(end(body).await, "complete 1", "{body}");
    }
    // Stored, and read only after the next command began: too late.
    assert_eq!(
        end("(local r (sh :false))\n(sh :true)\n(if (= r.exit 1) 1)").await,
        "3:10: `false` failed with exit code 1 [1]"
    );
}

#[tokio::test]
async fn what_is_returned_decides() {
    for (body, expected) in [
        (
            "(sh :true)",
            r#"complete {"cmd":"true","exit":0,"stderr":"","stdout":"out"}"#,
        ),
        (
            r#"(let [r (sh "exit 4")] (when r.exit r))"#,
            "`exit 4` failed with exit code 4 [4]",
        ),
        ("{:exit 3}", "it returned :exit 3 [3]"),
        ("{:exit 0 :n 1}", r#"complete {"exit":0,"n":1}"#),
        ("{:a {:exit 3}}", r#"complete {"a":{"exit":3}}"#),
        (
            "{:first (sh :true) :list [1 2]}",
            r#"complete {"first":{"cmd":"true","exit":0,"stderr":"","stdout":"out"},"list":[1,2]}"#,
        ),
        (
            "{:first (sh :false)}",
            "`false` failed with exit code 1 [1]",
        ),
        ("nil", "skipped"),
        ("(when false (sh :true))", "skipped"),
        ("(sh :true) nil", "complete null"),
        ("false", "complete false"),
        ("\"text\"", r#"complete "text""#),
        (
            "(fn [] 1)",
            "the value that it returned cannot be stored: it is a function",
        ),
        (
            "(let [t {}] (set t.me [t]) t)",
            "the value that it returned cannot be stored: `me[1]` contains itself",
        ),
        (
            "{:a \"\\255\"}",
            "the value that it returned cannot be stored: `a` is text that is not valid UTF-8",
        ),
        (
            "(string.rep :x 5000000)",
            "the value that it returned cannot be stored: it has more than 4194304 bytes of text",
        ),
    ] {
        let found = end(body).await;
        let found = found
            .split_once(": ")
            .filter(|(place, _)| place.contains(':') && place.len() < 8 && !place.contains(' '))
            .map_or(found.as_str(), |(_, rest)| rest);
        assert_eq!(found, expected, "{body}");
    }
}

#[tokio::test]
async fn errors_show_the_fennel_line() {
    for (body, expected) in [
        ("(error \"boom\")", "3:1: boom"),
        (
            "(local x nil)\n(log (.. :a\n x.y))",
            "4:1: attempt to index a nil value (local 'x')",
        ),
        ("(error {:code 3})", "3:1: raised {\"code\":3}"),
        ("(error nil)", "3:1: raised nil"),
        ("(assert false \"no\")", "3:1: no"),
        (
            "(fn deep [] (+ 1 (deep)))\n(deep)",
            "3:1: it calls itself too deeply (stack overflow)",
        ),
        (
            "(coroutine.yield 1)",
            "3:1: it yielded outside of a coroutine",
        ),
        (
            "(sh)",
            "3:1: `sh` takes a command as text or as a list, not nil",
        ),
        (r#"(sh "  ")"#, "3:1: the command is empty"),
        ("(sh [])", "3:1: the command is empty"),
        (
            "(sh [:a {}])",
            "3:1: each part of a command must be text, not table",
        ),
        (r#"(sh "a\0b")"#, "3:1: a command contains a NUL byte"),
        (r#"(sh "\255")"#, "3:1: a command is not valid UTF-8"),
        (
            "(sh :x {:evn {}})",
            "3:1: `sh` has no option :evn: did you mean :env?",
        ),
        (
            r#"(sh :x {:cwd "../up"})"#,
            "3:1: :cwd `../up` is outside the workspace",
        ),
        (
            r#"(sh :x {:timeout "soon"})"#,
            "3:1: `soon` is not a valid duration: write it like 90s, 10m or 1h30m",
        ),
        (
            "(jobs :quire/psuh)",
            "3:1: job `a` does not depend on `quire/psuh`; did you mean :quire/push?",
        ),
        (
            "(env nil)",
            "3:1: the name of a variable must be text, not nil",
        ),
        (
            "(env {})",
            "3:1: the name of a variable must be text, not table",
        ),
        (
            "(jobs :a)",
            "3:1: job `a` does not depend on `a`; its value is known to the jobs after it",
        ),
        ("(secret :tokn)", "3:1: there is no secret `tokn`"),
        (
            "(secret :npm-token {:json true})",
            "3:1: the secret `npm-token` is not JSON",
        ),
        (
            "(secret :account {:jsn true})",
            "3:1: `secret` has no option `jsn`: it has `json`",
        ),
        (
            "(error (. (secret :account {:json true}) :user))",
            "3:1: deployment-user",
        ),
        ("(log (fn []))", "3:1: `log` takes text, not function"),
        (
            "(local t (sh :true)) (set t.exit 0)",
            "3:1: the result of a command cannot be changed",
        ),
        (
            "(table.sort [2 1] #(sh :true))",
            "3:1: `sh` cannot be called from inside a function that was given to table.sort, string.gsub or the like",
        ),
        (
            "(string.gsub :x :x (coroutine.wrap #(sh :true)))",
            "3:1: `sh` cannot be called from inside a function that was given to table.sort, string.gsub or the like",
        ),
        (
            "(require :nothing)",
            "3:1: there is no module `nothing`: a helper is a file beside the pipeline, such as .quire/nothing.fnl",
        ),
    ] {
        assert_eq!(end(body).await, expected, "{body}");
    }
    let unknown = end("nil))\n(ci.job :b [:a] (fn [{: hs}] (hs :x)").await;
    assert_eq!(unknown, "skipped");
}

#[tokio::test]
async fn a_mistyped_tool_is_named() {
    let mut session = Session::start(fennel(
        "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{: sh : lgo}] (lgo 1)))",
    ))
    .await
    .unwrap();
    let story = session.run(&["a"], &json!({}), usual).await;
    assert_eq!(
        story.end("a"),
        "2:1: the job's table has no `lgo`: did you mean `log`?"
    );
}

#[tokio::test]
async fn tools_give_what_they_promise() {
    let body = r#"
      (local push (jobs :quire/push))
      (log push.branch) (log 3) (log "two\nlines") (log {:a [1]}) (log (length push.files-changed))
      (sh ["printf" "%s" "a b"] {:env {:B 2 :A "x"} :cwd "sub" :timeout "1m30s" :stdin "in"})
      (local (ok why) (pcall secret :nope))
      {:token (secret :token) : ok : why :gone (jobs :quire/manual) :tag push.tag}"#;
    let text = format!(
        "(local ci (require :quire.ci))\n(ci.job :a [:quire/push :quire/manual] (fn [{{: sh : jobs : secret : log}}]{body}))"
    );
    let mut session = Session::start(fennel(&text)).await.unwrap();
    let inputs =
        json!({"quire/push": {"branch": "main", "files-changed": ["a", "b"], "tag": null}});
    let story = session.run(&["a"], &inputs, usual).await;
    assert_eq!(
        story.logs,
        [
            "a: main",
            "a: 3",
            "a: two",
            "a: lines",
            "a: {\"a\":[1]}",
            "a: 2"
        ]
    );
    assert_eq!(story.commands, [r#"a: ["printf", "%s", "a b"]"#]);
    let opts = &story.options[0];
    assert_eq!(
        opts.env,
        [
            ("A".to_owned(), "x".to_owned()),
            ("B".to_owned(), "2".to_owned())
        ]
    );
    assert_eq!(opts.cwd.as_deref(), Some("sub"));
    assert_eq!(opts.timeout_ms, Some(90_000));
    assert_eq!(&opts.stdin, &Some(EncodedBytes::Plain("in".to_owned())));
    assert_eq!(
        story.end("a"),
        r#"complete {"ok":false,"token":"s3cret","why":".quire/ci.fnl:6: there is no secret `nope`"}"#
    );
}

#[tokio::test]
async fn outputs_are_one_stream_unless_the_pipeline_names_one_of_them() {
    for (body, merged) in [
        ("(sh \"a\")", vec![true]),
        ("(sh \"a\" {:merge false})", vec![false]),
        ("(. (sh \"a\") :stdout)", vec![false]),
        (
            "(let [{: stderr} (sh \"a\")] (sh \"b\" {:merge true}))",
            vec![false, true],
        ),
    ] {
        let text = format!(
            "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{{: sh}}] {body}))"
        );
        let mut session = Session::start(fennel(&text)).await.unwrap();
        let story = session.run(&["a"], &json!({"quire/push": {}}), usual).await;
        let merge: Vec<_> = story.options.iter().map(|options| options.merge).collect();
        assert_eq!(merge, merged, "{body}");
    }
}

#[tokio::test]
async fn a_variable_of_the_run_is_what_its_commands_see() {
    assert_eq!(end("(env :QUIRE_SHA)").await, "complete \"0123\"");
    assert_eq!(end("(env :NAME)").await, "complete \"the job's\"");
    assert_eq!(end("(env :PATH)").await, "skipped", "nil");
    assert_eq!(
        end("{:none (env :nope) :sha (env \"QUIRE_SHA\")}").await,
        "complete {\"sha\":\"0123\"}"
    );
}

#[tokio::test]
async fn output_that_is_not_text_reaches_the_job_as_it_is() {
    use quire_pipeline::driver::protocol::{EncodedBytes, FromDriver, JobEnd, ShResult, ToDriver};
    let mut session = Session::start(fennel("(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{: sh}] (let [r (sh :x)] {:length (length r.stdout) :byte (r.stdout:byte 2) : r})))")).await.unwrap();
    session.begin("a", &json!({}), None).await;
    let FromDriver::Sh { call, .. } = session.hear().await else {
        panic!("a command")
    };
    let encoded = EncodedBytes::Encoded {
        base64: "YP8A".to_owned(),
    };
    let result = ShResult {
        exit: 0,
        stdout: encoded,
        stderr: EncodedBytes::Plain(String::new()),
        error: None,
    };
    session
        .driver
        .send(&ToDriver::ShEnded { call, result })
        .await
        .unwrap();
    let FromDriver::JobEnded {
        end: JobEnd::Complete { output },
        ..
    } = session.hear().await
    else {
        panic!("an end")
    };
    assert_eq!(
        (&output["length"], &output["byte"]),
        (&json!(3), &json!(255))
    );
    assert_eq!(
        output["r"]["stdout"],
        json!("`\u{fffd}\u{0}"),
        "stored with the bytes replaced that no text can hold"
    );
}

#[tokio::test]
async fn a_command_that_could_not_be_run_fails_its_job() {
    use quire_pipeline::driver::protocol::{EncodedBytes, FromDriver, ShResult, ToDriver};
    let mut session = Session::start(fennel(
        "(local ci (require :quire.ci))\n(ci.job :a [:quire/push] (fn [{: sh}]\n (pcall #(let [r (sh :x)] r.exit)) 1))",
    ))
    .await
    .unwrap();
    session.begin("a", &json!({}), None).await;
    let FromDriver::Sh { call, .. } = session.hear().await else {
        panic!("a command")
    };
    let empty = EncodedBytes::Plain(String::new());
    let result = ShResult {
        exit: 137,
        stdout: empty.clone(),
        stderr: empty,
        error: Some("its time limit of 1s is over".to_owned()),
    };
    session
        .driver
        .send(&ToDriver::ShEnded { call, result })
        .await
        .unwrap();
    let mut story = Story::default();
    let FromDriver::JobEnded { job, end } = session.hear().await else {
        panic!("an end")
    };
    story.ends.insert(job, end);
    assert_eq!(story.end("a"), "3:18: `x`: its time limit of 1s is over");
}

#[tokio::test]
async fn jobs_interleave_on_one_state() {
    use quire_pipeline::driver::protocol::FromDriver;
    let text = "(local ci (require :quire.ci))
(each [_ id (ipairs [:a :b :c])]
  (ci.job id [:quire/push] (fn [{: sh}] (for [i 1 3] (sh (.. id i))) nil)))
(ci.job :bad [:quire/push] (fn [{: sh}] (sh :false)))";
    let mut session = Session::start(fennel(text)).await.unwrap();
    for id in ["a", "b", "c", "bad"] {
        session.begin(id, &json!({}), None).await;
    }
    // Each round answers only once all jobs wait: none of them holds up another.
    let mut rounds = Vec::new();
    for width in [4, 3, 3] {
        let mut round = Vec::new();
        while round.len() < width {
            match session.hear().await {
                FromDriver::Sh { call, cmd, .. } => round.push((call, shown(&cmd))),
                FromDriver::JobEnded { job, .. } => assert_eq!(job, "bad"),
                other => panic!("{other:?}"),
            }
        }
        for (call, text) in round.iter().rev() {
            session.answer(*call, usual(text).0, "").await;
        }
        rounds.push(round.into_iter().map(|(_, text)| text).collect::<Vec<_>>());
    }
    assert_eq!(rounds[0], ["a1", "b1", "c1", "false"]);
    let sorted = |round: &[String]| {
        let mut round = round.to_vec();
        round.sort();
        round
    };
    assert_eq!(
        (sorted(&rounds[1]), sorted(&rounds[2])),
        (
            vec!["a2".to_owned(), "b2".into(), "c2".into()],
            vec!["a3".to_owned(), "b3".into(), "c3".into()]
        )
    );
}

#[tokio::test]
async fn a_job_can_be_tried_again_and_an_unknown_one_is_refused() {
    let mut session =
        Session::start(fennel("(local ci (require :quire.ci))\n(var n 0)\n(ci.job :a [:quire/push] (fn [] (set n (+ n 1)) n))"))
            .await
            .unwrap();
    assert_eq!(
        session.run(&["a"], &json!({}), usual).await.end("a"),
        "complete 1"
    );
    assert_eq!(
        session.run(&["a"], &json!({}), usual).await.end("a"),
        "complete 2"
    );
    assert_eq!(
        session.run(&["x"], &json!({}), usual).await.end("x"),
        "there is no job `x`"
    );
}

#[tokio::test]
async fn a_lua_pipeline_has_the_same_rules() {
    let source = lua(r#"local ci = require("quire.ci")
ci.image("rust:1.95")
ci.job("a", {"quire/push"}, {timeout = "10m", ["allow-failure"] = true, retry = 2},
  function(t)
    t.sh("true")
    t.sh{"exit", "3"}
    t.sh("false")
    t.sh("never")
  end)"#);
    let mut session = Session::start(source.clone()).await.unwrap();
    let job_registration = &session.registration.jobs[0];
    assert_eq!(
        (
            job_registration.location.line,
            job_registration.location.column
        ),
        (3, 1)
    );
    assert_eq!(job_registration.options.timeout_ms, Some(600_000));
    assert!(pipeline(session.registration.clone(), &source).is_ok());
    let story = session.run(&["a"], &json!({}), usual).await;
    assert_eq!(story.end("a"), "7:5: `false` failed with exit code 1 [1]");
}

#[tokio::test]
async fn helpers_come_from_the_same_commit() {
    let mut source = fennel(
        "(local ci (require :quire.ci))\n(import-macros {: twice} :macros)\n(local h (require :lib.steps))\n(local l (require :plain))\n(ci.job :a [:quire/push] (fn [{: sh}] (h.step sh) (twice (sh l.word)) (require :lib.steps) nil))",
    );
    source.helpers = vec![
        (
            ".quire/lib/steps.fnl".to_owned(),
            "(fn step [sh]\n  (sh \"exit 5\"))\n{: step}".to_owned(),
        ),
        (
            ".quire/macros.fnl".to_owned(),
            "(fn twice [form] `(do ,form ,form))\n{: twice}".to_owned(),
        ),
        (
            ".quire/plain.lua".to_owned(),
            "return {word = 'hi'}".to_owned(),
        ),
        (".quire/broken.fnl".to_owned(), "(local x".to_owned()),
    ];
    let mut session = Session::start(source.clone()).await.unwrap();
    let story = session.run(&["a"], &json!({}), |_| (0, "")).await;
    assert_eq!(story.commands, ["a: exit 5", "a: hi", "a: hi"]);
    let story = session.run(&["a"], &json!({}), usual).await;
    let quire_pipeline::driver::protocol::JobEnd::Failed { location, .. } = &story.ends["a"] else {
        panic!("it fails")
    };
    assert_eq!(
        location.as_ref().unwrap().to_string(),
        ".quire/lib/steps.fnl:2:3"
    );

    source.text = "(require :broken)".to_owned();
    let refused = Session::start(source).await.err().unwrap().to_string();
    assert!(
        refused.contains(".quire/broken.fnl:1:") && refused.contains("cannot be parsed"),
        "{refused}"
    );
}
