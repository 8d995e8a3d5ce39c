//! Query plans, and a million runs.

use super::*;

thread_local! {
    static STATEMENTS: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn note_statement(event: rusqlite::trace::TraceEvent<'_>) {
    if let rusqlite::trace::TraceEvent::Stmt(statement, _) = event
        && let Some(sql) = statement.expanded_sql()
    {
        STATEMENTS.with_borrow_mut(|seen| seen.push(sql));
    }
}

#[test]
fn a_million_runs_are_never_scanned() {
    let f = fixture();
    let run = record(&f.store, "app", &["main"])[0];
    let codes = rusqlite::trace::TraceEventCodes::SQLITE_TRACE_STMT;
    let traced =
        |connection: &rusqlite::Connection| connection.trace_v2(codes, Some(note_statement));
    let also_here = |connection: &rusqlite::Connection| {
        traced(connection);
        Ok(())
    };
    f.store.write(|tx| also_here(tx)).unwrap();
    f.store.read(also_here).unwrap();
    let all = RunFilter {
        limit: 50,
        ..RunFilter::default()
    };
    assert!(f.store.queue().has_claimable().unwrap());
    assert_eq!(claimed(&f.store), run);
    assert_eq!(f.store.runs().list(&all).unwrap().len(), 1);
    for filter in [
        RunFilter {
            repo: Some(repo("app")),
            ..all.clone()
        },
        RunFilter {
            repo: Some(repo("app")),
            ref_name: Some(branch("main")),
            ..all.clone()
        },
        RunFilter {
            state: Some(RunState::Active),
            ..all.clone()
        },
        RunFilter {
            before: Some(RunId::new()),
            ..all
        },
    ] {
        assert_eq!(f.store.runs().list(&filter).unwrap().len(), 1);
    }
    assert_eq!(f.store.runs().active().unwrap().len(), 1);
    f.store.queue().set_wait_reason(None).unwrap();
    f.store
        .retention()
        .mark_removed(
            &[run],
            RemovedFiles {
                logs: true,
                artifacts: true,
            },
        )
        .unwrap();
    f.store.retention().remove_runs(&[run]).unwrap();
    f.store.retention().remove_events(Millis(1), 500).unwrap();
    f.store.runs().finish(run, &Outcome::Complete).unwrap();
    let seen: Vec<String> = STATEMENTS
        .take()
        .into_iter()
        .filter(|sql| !["BEGIN", "COMMIT"].iter().any(|word| sql.starts_with(word)))
        .collect();
    assert!(seen.len() >= 12, "{seen:?}");
    for sql in seen.iter().filter(|sql| !sql.starts_with("--")) {
        let plan = f.store.read(|connection| {
            let mut statement = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap();
            Ok(statement
                .query_map([], |row| row.get::<_, String>(3))
                .unwrap()
                .map(Result::unwrap)
                .collect::<Vec<_>>())
        });
        for step in plan.unwrap() {
            // In the order of an index and only as far as is asked, or through a small table.
            let scan = step.starts_with("SCAN ")
                && !step.contains(" USING ")
                && !step.contains("kept_containers")
                && !step.ends_with(" chain")
                && !step.contains("CONSTANT ROW");
            assert!(
                !scan && !step.contains("TEMP B-TREE FOR ORDER BY"),
                "{step}: {sql}"
            );
        }
    }
}

#[test]
fn queries_of_the_queue_use_indexes() {
    let f = fixture();
    let connection = rusqlite::Connection::open(f.folder.path().join("quire.db")).unwrap();
    for sql in crate::queue::hot_queries() {
        let mut statement = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
        let plan: Vec<String> = statement
            .query_map(rusqlite::params_from_iter(nulls), |row| row.get(3))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        let whole = |line: &&String| {
            line.starts_with("SCAN") && line.contains("runs") && !line.contains("USING")
        };
        assert_eq!(plan.iter().find(whole), None, "{sql}\n{plan:#?}");
    }
}
