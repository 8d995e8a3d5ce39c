//! The rule of the unread exit: every way in which a failed command can, and cannot, go unnoticed.

use serde_json::{Value, json};

use super::support::*;

/// A command that failed, at the start of line 3.
const LINE_3: &str = "3:1: `false` failed with exit code 1 [1]";

#[tokio::test]
async fn whoever_did_not_read_it_has_failed() {
    let mut wrong = Vec::new();
    for (body, expected) in [
        // Returned, but not itself.
        ("(sh :false)", LINE_3),
        ("(sh :false) nil", LINE_3),
        ("(sh :false) (values nil 1)", LINE_3),
        (
            "(do (sh :false)) {:exit 0}",
            "3:5: `false` failed with exit code 1 [1]",
        ),
        (
            "{:r [(sh :false)]}",
            "3:6: `false` failed with exit code 1 [1]",
        ),
        // Every kind of loop.
        (
            "(each [_ c (ipairs [:true :false :never])] (sh c))",
            "3:44: `false` failed with exit code 1 [1]",
        ),
        (
            r#"(for [i 1 3] (sh (.. "exit " (- i 1))))"#,
            "3:14: `exit 1` failed with exit code 1 [1]",
        ),
        (
            "(var n 0) (while (< n 3) (set n (+ n 1)) (sh :false))",
            "3:42: `false` failed with exit code 1 [1]",
        ),
        (
            "(icollect [_ c (ipairs [:false :true])] (sh c))",
            "3:41: `false` failed with exit code 1 [1]",
        ),
        (
            "(faccumulate [r nil i 1 2] (sh :false))",
            "3:28: `false` failed with exit code 1 [1]",
        ),
        // Helper functions, called last or not, and a method.
        (
            "(fn twice [c] (sh c) (sh c)) (twice :false)",
            "3:15: `false` failed with exit code 1 [1]",
        ),
        (
            "(local t {:go (fn [_ c] (sh c))}) (t:go :false) 1",
            "3:25: `false` failed with exit code 1 [1]",
        ),
        (
            "(#(sh :false)) 1",
            "3:3: `false` failed with exit code 1 [1]",
        ),
        // Nothing catches it.
        (
            "(pcall #(sh :false)) 1",
            "3:9: `false` failed with exit code 1 [1]",
        ),
        (
            "(xpcall #(do (sh :false) (sh :true)) #1) 1",
            "3:14: `false` failed with exit code 1 [1]",
        ),
        (
            "(pcall #(do (sh :false) (error :x))) 1",
            "3:13: `false` failed with exit code 1 [1]",
        ),
        (
            "(local co (coroutine.create #(do (sh :false) (sh :true)))) (coroutine.resume co) 1",
            "3:34: `false` failed with exit code 1 [1]",
        ),
        (
            "(local f (coroutine.wrap #(coroutine.yield (sh :false)))) (f) 1",
            "3:44: `false` failed with exit code 1 [1]",
        ),
        (
            "(coroutine.close (coroutine.create #nil)) (sh :false) 1",
            "3:43: `false` failed with exit code 1 [1]",
        ),
        // What looks at something else does not look.
        (
            "(local r (sh :false)) r.stdout",
            "3:10: `false` failed with exit code 1 [1]",
        ),
        (
            "(local {: stdout : cmd} (sh :false)) cmd",
            "3:25: `false` failed with exit code 1 [1]",
        ),
        (
            "(match (sh :false) {:stdout x} x)",
            "3:8: `false` failed with exit code 1 [1]",
        ),
        (
            "(local r (sh :false)) (tostring r) 1",
            "3:10: `false` failed with exit code 1 [1]",
        ),
        (
            "(local r (sh :false)) (= r nil) (= r r) (not r) (type r) 1",
            "3:10: `false` failed with exit code 1 [1]",
        ),
        (
            "(local r (sh :false)) (rawequal r {}) (rawlen r) (length r) 1",
            "3:10: `false` failed with exit code 1 [1]",
        ),
        (
            "(local r (sh :false)) (local t {r 1}) (. t r)",
            "3:10: `false` failed with exit code 1 [1]",
        ),
        (
            "(local r (sh :false)) (each [_ x (ipairs r)] x) 1",
            "3:10: `false` failed with exit code 1 [1]",
        ),
        (
            "(local r (sh :false)) (table.unpack r) 1",
            "3:10: `false` failed with exit code 1 [1]",
        ),
        (
            "(local r (sh :false)) (. r :exit-code) 1",
            "3:10: `false` failed with exit code 1 [1]",
        ),
        (
            "(local (ok why) (pcall #(sh :false))) (when (not ok) (error why)) 1",
            "3:25: `false` failed with exit code 1 [1]",
        ),
        // Read too late, and only one of two.
        (
            "(local a (sh :false)) (local b (sh :true)) a.exit",
            "3:10: `false` failed with exit code 1 [1]",
        ),
        (
            r#"(local a (sh :false)) a.exit (local b (sh "exit 2")) 1"#,
            "3:39: `exit 2` failed with exit code 2 [2]",
        ),
        (
            "(local l []) (tset l 1 (sh :true)) (tset l 2 (sh :false)) (. l 1 :exit)",
            "3:46: `false` failed with exit code 1 [1]",
        ),
        // An error of its own on top: the command was there first.
        ("(sh :false) (error :later)", "3:1: later"),
    ] {
        let found = end(body).await;
        if found != expected {
            wrong.push(format!("{body}: {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn whoever_read_it_decides() {
    for body in [
        "(local r (sh :false)) (if (= r.exit 0) 0 1)",
        "(local r (sh :false)) (. r :exit) 1",
        "(local r (sh :false)) (?. r :exit) 1",
        "(local {: exit} (sh :false)) 1",
        "(local {:exit code} (sh :false)) code",
        "(let [{: exit : stdout} (sh :false)] exit)",
        "(match (sh :false) {:exit 0} 0 _ 1)",
        "(case (sh :false) {:exit 0 :stdout x} x {:exit n} n)",
        "(case (sh :false) (where {: exit} (> exit 0)) exit)",
        "(case-try (sh :false) {:exit 1} 1)",
        "(local r (sh :false)) (each [k _ (pairs r)] k) 1",
        "(local r (sh :false)) (collect [k v (pairs r)] k v) 1",
        "(local r (sh :false)) (next r :cmd) (var k nil) (for [_ 1 4] (set k (next r k))) 1",
        "(local r (sh :false)) (rawget r :exit) 1",
        "(fn ok? [r] (= 0 r.exit)) (if (ok? (sh :false)) 0 1)",
        "(local kept {}) (set kept.r (sh :false)) (if (= kept.r.exit 1) 1)",
        "(local l [(sh :false)]) (. (. l 1) :exit)",
        "(local (ok r) (pcall sh :false)) r.exit",
        "(local (ok n) (pcall #(. (sh :false) :exit))) n",
        "(select 2 (pcall #(let [r (sh :false)] r.exit)))",
        "((coroutine.wrap #(. (sh :false) :exit)))",
        "(local f (coroutine.wrap #(let [r (sh :false)] (coroutine.yield r) 1))) (local r (f)) r.exit",
        "(-> (sh :false) (. :exit))",
        "(-?> (sh :false) (. :exit))",
        "(with-open [x {:close #nil}] (. (sh :false) :exit))",
        "(accumulate [n 0 _ c (ipairs [:true :false])] (+ n (. (sh c) :exit)))",
        "(local r (sh :false)) (and r.exit 1)",
        "(local codes (icollect [_ c (ipairs [:false :false])] (. (sh c) :exit))) (. codes 1)",
        "(local tries (faccumulate [n 0 i 1 3 :until (> n 0)] (. (sh :false) :exit))) tries",
        "(local r (setmetatable {} {:__index (sh :false)})) r.exit",
        r#"(string.format "%d" (. (sh :false) :exit)) 1"#,
    ] {
        assert_eq!(end(body).await, "complete 1", "{body}");
    }
    // Read, and then returned: the table's `:exit` says what became of the job.
    assert_eq!(
        end("(local r (sh :false)) r.exit r").await,
        "3:10: `false` failed with exit code 1 [1]"
    );
    assert_eq!(
        end("(local r (sh :false)) r.exit {:r r}").await,
        r#"complete {"r":{"cmd":"false","exit":1,"stderr":"","stdout":"out"}}"#
    );
    assert_eq!(
        end("(local r (sh :false)) {:exit r.exit}").await,
        "3:1: it returned :exit 1 [1]"
    );
    assert_eq!(
        end("(local r (sh :false)) {:exit (tostring r.exit)}").await,
        "3:1: it returned :exit 1"
    );
    assert_eq!(
        end("(local r (sh :false)) r.exit (values {:exit 0} r)").await,
        r#"complete {"exit":0}"#
    );
}

#[tokio::test]
async fn a_helper_file_has_the_same_rule() {
    let mut source = fennel(
        "(local ci (require :quire.ci))\n(local h (require :helpers))\n(ci.job :plain [:quire/push] (fn [{: sh}] (h.run sh :false) 1))\n(ci.job :read [:quire/push] (fn [{: sh}] (if (h.works? sh :false) 0 1)))\n(ci.job :late [:quire/push] (fn [{: sh}] (h.keep (sh :false)) (sh :true) (h.kept)))",
    );
    let helper = "(var last nil)\n{:run (fn [sh c]\n  (sh c) nil)\n :works? (fn [sh c] (= 0 (. (sh c) :exit)))\n :keep (fn [r] (set last r))\n :kept #last.exit}";
    source.helpers = vec![(".quire/helpers.fnl".to_owned(), helper.to_owned())];
    let mut session = Session::start(source).await.unwrap();
    let story = session
        .run(&["plain", "read", "late"], &json!({}), usual)
        .await;
    assert_eq!(
        story.end("plain"),
        "3:3: `false` failed with exit code 1 [1]"
    );
    assert_eq!(story.end("read"), "complete 1");
    assert_eq!(
        story.end("late"),
        "5:50: `false` failed with exit code 1 [1]"
    );
}

#[tokio::test]
async fn jobs_side_by_side_do_not_answer_for_each_other() {
    // Each job's commands are its own: what one reads does not count for what the other ran.
    let text = "(local ci (require :quire.ci))
(local shared {})
(ci.job :a [:quire/push] (fn [{: sh}] (set shared.a (sh :false)) (sh :true) 1))
(ci.job :b [:quire/push] (fn [{: sh}] (let [r (sh :false)] r.exit) (sh :true) 1))
(ci.job :giver [:quire/push] (fn [{: sh}] (set shared.r (sh :false)) (while (not shared.seen) nil) (sh :true) 1))
(ci.job :reader [:quire/push] (fn [{: sh}] (while (not shared.r) nil) (set shared.seen shared.r.exit) 1))";
    let mut session = Session::start(fennel(text)).await.unwrap();
    let story = session.run(&["a", "b"], &json!({}), usual).await;
    assert_eq!(story.end("a"), "3:53: `false` failed with exit code 1 [1]");
    assert_eq!(story.end("b"), "complete 1");
    // A result that was handed over and read there was read.
    let story = session.run(&["giver", "reader"], &json!({}), usual).await;
    assert_eq!(
        (story.end("giver"), story.end("reader")),
        ("complete 1".to_owned(), "complete 1".to_owned())
    );
}

#[tokio::test]
async fn a_result_that_a_job_returned_is_plain_data_for_the_next_one() {
    let text = "(local ci (require :quire.ci))
(ci.job :b [:a] (fn [{: jobs : sh}] (local r (jobs :a)) (sh :true) {: r :n r.r.exit}))
(ci.job :a [:quire/push] (fn [{: sh}] (local r (sh :false)) (when r.exit {: r})))";
    let mut session = Session::start(fennel(text)).await.unwrap();
    let story = session.run(&["a"], &json!({}), usual).await;
    let quire_pipeline::driver::protocol::JobEnd::Complete { output } = &story.ends["a"] else {
        panic!("{}", story.end("a"))
    };
    let inputs = json!({"a": output.clone(), "quire/push": Value::Null});
    let story = session.run(&["b"], &inputs, usual).await;
    assert!(
        story.end("b").starts_with("complete {\"n\":1,"),
        "{}",
        story.end("b")
    );
}

#[tokio::test]
async fn lua_has_the_same_rule() {
    let text = r#"local ci = require("quire.ci")
local function job(id, f) ci.job(id, {"quire/push"}, f) end
job("goto", function(t)
  for i = 1, 2 do
    local r = t.sh("false")
  end
end)
job("reads", function(t) local r = t.sh("false"); if r.exit ~= 0 then return 1 end end)
job("brackets", function(t) local r = t.sh("false"); return r["exit"] end)
job("pairs", function(t) for k, v in pairs(t.sh("false")) do end return 1 end)
job("tail", function(t) return t.sh("false") end)
job("close", function(t) local r <const> = t.sh("false"); return 1 end)"#;
    let mut session = Session::start(lua(text)).await.unwrap();
    let story = session
        .run(
            &["goto", "reads", "brackets", "pairs", "tail", "close"],
            &json!({}),
            usual,
        )
        .await;
    assert_eq!(
        story.end("goto"),
        "5:15: `false` failed with exit code 1 [1]"
    );
    for id in ["reads", "brackets", "pairs"] {
        assert_eq!(story.end(id), "complete 1", "{id}");
    }
    assert_eq!(
        story.end("tail"),
        "11:32: `false` failed with exit code 1 [1]"
    );
    assert_eq!(
        story.end("close"),
        "12:44: `false` failed with exit code 1 [1]"
    );
}
