use super::*;
use crate::diagnostic::Location;
use crate::graph::PipelineImage;

fn check(
    registration: Registration,
    source: &SourceFile,
    has_dockerfile: bool,
) -> Result<Pipeline, Vec<Diagnostic>> {
    Pipeline::check(registration, source, has_dockerfile)
}

fn registered(id: &str, inputs: &[&str], line: u32) -> JobRegistration {
    JobRegistration {
        id: id.to_owned(),
        inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
        options: Default::default(),
        location: at(line),
    }
}

fn at(line: u32) -> Location {
    Location {
        file: ".quire/ci.fnl".to_owned(),
        line,
        column: 1,
    }
}

fn checked_jobs(jobs: &[(&str, &[&str])]) -> Result<Pipeline, Vec<Diagnostic>> {
    let text: Vec<String> = jobs
        .iter()
        .map(|(id, inputs)| format!("(ci.job :{id} [:{}] f)", inputs.join(" :")))
        .collect();
    let source = SourceFile {
        file: ".quire/ci.fnl".to_owned(),
        text: text.join("\n"),
    };
    let jobs = (1..)
        .zip(jobs)
        .map(|(line, (id, inputs))| registered(id, inputs, line))
        .collect();
    check(
        Registration {
            jobs,
            ..Registration::default()
        },
        &source,
        false,
    )
}

fn problems(jobs: &[(&str, &[&str])]) -> Vec<String> {
    let shown = |problem: Diagnostic| {
        format!(
            "{problem}{}",
            problem
                .hint
                .as_ref()
                .map(|hint| format!(" ({hint})"))
                .unwrap_or_default()
        )
    };
    checked_jobs(jobs).map_or_else(
        |problems| problems.into_iter().map(shown).collect(),
        |_| Vec::new(),
    )
}

#[test]
fn a_valid_graph_keeps_order_and_says_its_ancestors() {
    let pipeline = checked_jobs(&[
        ("b", &["a", "a", "quire/manual"]),
        ("a", &["quire/push"]),
        ("c", &["b"]),
        ("d", &["quire/push"]),
    ])
    .unwrap();
    let ids: Vec<&str> = pipeline.jobs().iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, ["b", "a", "c", "d"]);
    assert_eq!(
        pipeline.jobs()[0].inputs.len(),
        2,
        "an input given twice counts once"
    );
    let ancestors = |id: &str| {
        pipeline
            .ancestors(&id.parse().unwrap())
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(ancestors("c"), ["quire/push", "quire/manual", "b", "a"]);
    assert_eq!(ancestors("d"), ["quire/push"]);
    assert_eq!(pipeline.sources(), [Source::Push, Source::Manual]);
    assert_eq!(*pipeline.image(), PipelineImage::Default);
}

#[test]
fn cycles_name_their_members_and_disjoint_ones_stand_apart() {
    assert_eq!(
        problems(&[
            ("c", &["b"]),
            ("a", &["c"]),
            ("b", &["a"]),
            ("x", &["y", "quire/push"]),
            ("y", &["x"]),
            ("z", &["z"])
        ]),
        [
            ".quire/ci.fnl:1:1: the jobs form a cycle: `c` → `b` → `a` → `c` (remove one of these inputs (each job waits for the one after it))",
            ".quire/ci.fnl:4:1: the jobs form a cycle: `x` → `y` → `x` (remove one of these inputs (each job waits for the one after it))",
            ".quire/ci.fnl:6:1: job `z` waits for itself (remove it from its own inputs)",
        ]
    );
}

#[test]
fn unknown_inputs_point_at_the_name_and_suggest_one() {
    assert_eq!(
        problems(&[
            ("test", &["quire/puhs"]),
            ("build", &["tset"]),
            ("deploy", &["push"]),
            ("z", &["nothing-like-it", "quire/xx"])
        ]),
        [
            ".quire/ci.fnl:1:16: job `test` waits for `quire/puhs`, which is not a source (did you mean :quire/push?)",
            ".quire/ci.fnl:2:17: job `build` waits for `tset`, which is not a job (did you mean :test?)",
            ".quire/ci.fnl:3:18: job `deploy` waits for `push`, which is not a job (did you mean :quire/push?)",
            ".quire/ci.fnl:4:13: job `z` waits for `nothing-like-it`, which is not a job (the other jobs are :build :deploy :test)",
            ".quire/ci.fnl:4:30: job `z` waits for `quire/xx`, which is not a source (the sources are :quire/push :quire/manual)",
        ]
    );
}

#[test]
fn ids_inputs_and_reachability_are_checked_together() {
    let found = problems(&[
        ("a/b", &["quire/push"]),
        ("a", &["quire/push"]),
        ("a", &["quire/push"]),
        ("l", &["l"]),
        ("m", &["l"]),
    ]);
    assert_eq!(
        found,
        [
            ".quire/ci.fnl:1:1: `a/b` is not a job id: `/` is reserved for sources such as `quire/push` (call it `a-b`)",
            ".quire/ci.fnl:3:1: job `a` is registered twice: here and at line 2 (give one of them another id)",
            ".quire/ci.fnl:4:1: job `l` waits for itself (remove it from its own inputs)",
            ".quire/ci.fnl:5:1: job `m` can never start: it does not depend on any source (make `l`, or a job before it, wait for a source such as :quire/push)",
        ]
    );
    let none = check(
        Registration {
            jobs: vec![registered("e", &[], 1)],
            ..Registration::default()
        },
        &SourceFile::default(),
        false,
    );
    assert!(none.unwrap_err()[0].message.contains("has no inputs"));
    let empty = check(Registration::default(), &SourceFile::default(), false).unwrap_err();
    assert_eq!(empty[0].message, "the pipeline registers no jobs");
    for id in ["", "a b", ".x", "-x", &"x".repeat(1 << 20)] {
        let problems = check(
            Registration {
                jobs: vec![registered(id, &["quire/push"], 1)],
                ..Registration::default()
            },
            &SourceFile::default(),
            false,
        );
        let problems = problems.unwrap_err();
        assert!(
            problems[0].message.contains("is not a job id") && problems[0].message.len() < 300,
            "{id:.10}"
        );
    }
}

#[test]
fn one_image_from_one_place() {
    let with = |images: &[&str], dockerfile| {
        let images = (1..)
            .zip(images)
            .map(|(line, &image)| (image.to_owned(), at(line)))
            .collect();
        let registration = Registration {
            jobs: vec![registered("a", &["quire/push"], 9)],
            images,
            ..Registration::default()
        };
        check(registration, &SourceFile::default(), dockerfile)
            .map(|pipeline| pipeline.image().clone())
            .map_err(|problems| problems[0].to_string())
    };
    assert_eq!(with(&[], true), Ok(PipelineImage::Dockerfile));
    assert_eq!(
        with(&["a:1"], false),
        Ok(PipelineImage::Reference("a:1".parse().unwrap()))
    );
    assert_eq!(
        with(&["a:1", "b:2"], false),
        Err(
            ".quire/ci.fnl:2:1: `ci.image` is called twice: with `b:2` here, and at line 1"
                .to_owned()
        )
    );
    assert_eq!(
        with(&["a:1"], true),
        Err(
            ".quire/ci.fnl:1:1: the image `a:1` is set, but the commit has a .quire/Dockerfile too"
                .to_owned()
        )
    );
    assert!(with(&["a b"], false).is_err() && with(&[""], false).is_err());
}

#[test]
fn what_is_too_large_is_one_sentence() {
    let jobs: Vec<JobRegistration> = (0..=MAX_JOBS)
        .map(|number| registered(&format!("j{number}"), &["quire/psh"], 1))
        .collect();
    let problems = check(
        Registration {
            jobs,
            ..Registration::default()
        },
        &SourceFile::default(),
        false,
    )
    .unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].message,
        "the pipeline registers more than 10000 jobs"
    );
    let wide: Vec<String> = (0..=MAX_INPUTS)
        .map(|number| format!("j{number}"))
        .collect();
    let job = JobRegistration {
        inputs: wide,
        ..registered("a", &[], 1)
    };
    let problems = check(
        Registration {
            jobs: vec![job],
            ..Registration::default()
        },
        &SourceFile::default(),
        false,
    )
    .unwrap_err();
    assert_eq!(problems[0].message, "job `a` has more than 1000 inputs");
}

#[test]
fn the_largest_graphs_are_checked_without_quadratic_cost() {
    let ring: Vec<JobRegistration> = (0..MAX_JOBS)
        .map(|number| {
            registered(
                &format!("j{number}"),
                &[&format!("j{}", (number + 1) % MAX_JOBS)],
                1,
            )
        })
        .collect();
    let problems = check(
        Registration {
            jobs: ring,
            ..Registration::default()
        },
        &SourceFile::default(),
        false,
    )
    .unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].message.contains("`j18` → `j19` → … → `j0`"),
        "{}",
        problems[0]
    );
    let chain: Vec<JobRegistration> = (0..MAX_JOBS)
        .map(|number| {
            registered(
                &format!("j{number}"),
                &[&number
                    .checked_sub(1)
                    .map_or("quire/push".to_owned(), |before| format!("j{before}"))],
                1,
            )
        })
        .collect();
    assert!(
        check(
            Registration {
                jobs: chain,
                ..Registration::default()
            },
            &SourceFile::default(),
            false
        )
        .is_ok()
    );
}

#[test]
fn a_later_value_of_a_variable_counts() {
    let env = [("A", "1"), ("B", "2"), ("A", "3")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let registration = Registration {
        jobs: vec![registered("a", &["quire/push"], 1)],
        env,
        timeouts: vec![(5, at(1))],
        ..Registration::default()
    };
    let pipeline = check(registration, &SourceFile::default(), false).unwrap();
    assert_eq!(
        pipeline.env(),
        [
            ("A".to_owned(), "3".to_owned()),
            ("B".to_owned(), "2".to_owned())
        ]
    );
    assert_eq!(pipeline.timeout_ms(), Some(5));
}
