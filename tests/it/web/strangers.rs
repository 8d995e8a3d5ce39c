//! What clients that are not signed in may use: each of them, and all of them together.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use quire_config::StrangerAccess;
use quire_testkit::{Response, wait_for_async};
use quire_types::clock::Clock;
use quire_web::{ConnectionLimits, SignInMethod, StrangerLimits, StrangerSettings};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::git_http::{hold, processes};
use super::repository::{furnish, git};
use super::site::{NOW, Site};
use super::visibility::{clones, configure};

const HTML: &str = "text/html,application/xhtml+xml";

/// A site with the public repository `app` and the private one `secret`, and the time of its clock.
struct PublicSite {
    site: Site,
    time: Arc<AtomicI64>,
    commits: (String, String),
}

impl PublicSite {
    async fn start(access: StrangerAccess, limits: StrangerLimits) -> Self {
        let time = Arc::new(AtomicI64::new(NOW.0));
        let strangers = StrangerSettings { access, limits };
        let site = Site::with_strangers(
            SignInMethod::Ssh,
            Clock::manual(time.clone()),
            ConnectionLimits::default(),
            strangers,
        )
        .await;
        let commits = furnish(&site, "app");
        configure(&site, "app", "{:public true}");
        furnish(&site, "secret");
        Self {
            site,
            time,
            commits,
        }
    }

    fn wait(&self, seconds: i64) {
        self.time.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// A request of a stranger whose address a trusted proxy names.
    async fn ask_as(&self, address: &str, path: &str, accept: &str) -> Response {
        let headers = [("X-Forwarded-For", address), ("Accept", accept)];
        self.site.send("GET", path, &headers).await
    }

    async fn ask(&self, address: &str, path: &str) -> Response {
        self.ask_as(address, path, HTML).await
    }

    /// How many requests are served until one is not; `path` is made different each time, so that no kept page answers.
    async fn served(&self, address: &str, path: &str) -> (usize, Response) {
        let mark = if path.contains('?') { '&' } else { '?' };
        for count in 0..200 {
            let answer = self.ask(address, &format!("{path}{mark}n={count}")).await;
            if answer.status != 200 {
                return (count, answer);
            }
        }
        panic!("{path} is served without a limit");
    }
}

#[tokio::test]
async fn each_class_costs_its_units_until_the_client_is_refused() {
    let public = PublicSite::start(StrangerAccess::All, StrangerLimits::default()).await;
    for (number, (path, served, retry_after)) in [
        ("/app/-/tree/main", 120, "1"),
        ("/app/-/file/main/README.md", 120, "1"),
        ("/app/-/log/main", 120, "1"),
        ("/app", 120, "1"),
        ("/", 120, "1"),
        ("/app/-/log/main/README.md", 24, "5"),
        ("/app/-/commit/main", 24, "5"),
        ("/app/-/compare/v1.0...main", 24, "5"),
        ("/app/-/blame/main/README.md", 2, "30"),
        ("/app/-/search?q=ledger", 2, "30"),
        ("/app/-/log/main?author=x", 2, "30"),
        ("/app/-/archive/main.zip", 120, "1"),
    ]
    .into_iter()
    .enumerate()
    {
        let address = format!("198.51.100.{number}");
        let (count, answer) = public.served(&address, path).await;
        assert_eq!((count, answer.status), (served, 429), "{path}");
        assert_eq!(answer.header("retry-after"), Some(retry_after), "{path}");
        assert!(answer.body.contains("<h1>Too many requests</h1>"), "{path}");
        assert!(answer.body.contains("git@git.home.example login"), "{path}");
    }
    // What a client has, or what is kept, costs nothing.
    let page = public.ask("203.0.113.1", "/app/-/tree/main").await;
    let tag = page.header("etag").unwrap();
    for _ in 0..130 {
        let again = public.ask("203.0.113.1", "/app/-/tree/main").await;
        assert_eq!(again.status, 200);
        let known = [("X-Forwarded-For", "203.0.113.1"), ("If-None-Match", tag)];
        let again = public.site.send("GET", "/app/-/tree/main", &known).await;
        assert_eq!(again.status, 304);
    }
}

#[tokio::test]
async fn a_refused_client_is_told_when_to_return_in_its_own_form() {
    let mut public = PublicSite::start(StrangerAccess::All, StrangerLimits::default()).await;
    let (_, page) = public.served("192.0.2.1", "/app/-/search?q=a").await;
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    let path = "/app/-/search?q=b";
    let data = public.ask_as("192.0.2.1", path, "application/json").await;
    assert_eq!((data.status, data.header("retry-after")), (429, Some("30")));
    let sentence =
        "This address has asked for much in a short time. Try again in 30 s, or sign in.";
    assert_eq!(data.json()["error"], sentence);
    let text = public.ask_as("192.0.2.1", path, "*/*").await;
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!((text.status, text.body), (429, format!("{sentence}\n")));
    // Nothing that everyone needs is refused.
    for path in ["/healthz", "/readyz", "/login", "/robots.txt", "/metrics"] {
        let answer = public.ask("192.0.2.1", path).await;
        assert_ne!(answer.status, 429, "{path}");
    }
    // Others are served, also while this one waits; its own network is not.
    assert_eq!(public.ask("192.0.2.2", path).await.status, 200);
    for _ in 0..2 {
        let answer = public.ask("2001:db8:0:ff::1", "/app/-/search?q=c").await;
        assert_eq!(answer.status, 200);
    }
    let answer = public.ask("2001:db8:0:1::9", "/app/-/search?q=d").await;
    assert_eq!(answer.status, 429);
    let answer = public.ask("2001:db8:0:100::1", "/app/-/search?q=d").await;
    assert_eq!(answer.status, 200);
    let metrics = public.site.get("/metrics").await.body;
    let line = "quire_stranger_requests_refused_total{limit=\"client\"} 4\n";
    assert!(metrics.contains(line), "{metrics}");
    public.wait(29);
    assert_eq!(public.ask("192.0.2.1", path).await.status, 429);
    public.wait(1);
    assert_eq!(public.ask("192.0.2.1", path).await.status, 200);
    // Who is signed in has no limit, whatever the address has used.
    public.site.sign_in().await;
    for count in 0..10 {
        let path = format!("/app/-/search?q=signed{count}");
        assert_eq!(public.ask("192.0.2.1", &path).await.status, 200);
    }
}

#[tokio::test]
async fn a_private_repository_costs_what_one_that_does_not_exist_costs() {
    let public = PublicSite::start(StrangerAccess::All, StrangerLimits::default()).await;
    let pages = ["blame/main/README.md", "search?q=a", "archive/main.zip"];
    let mut answers = Vec::new();
    for (address, repo) in [("192.0.2.1", "secret"), ("192.0.2.2", "nothing")] {
        let mut all = Vec::new();
        for page in pages {
            let path = format!("/{repo}/-/{page}");
            for _ in 0..5 {
                all.push(public.ask(address, &path).await);
            }
        }
        assert!(all.iter().all(|answer| answer.status == 401), "{repo}");
        // All of the budget is left for what is public.
        let (count, _) = public.served(address, "/app/-/raw/main/README.md").await;
        assert_eq!(count, 120, "{repo}");
        for page in pages {
            let answer = public.ask(address, &format!("/{repo}/-/{page}")).await;
            assert_eq!(answer.status, 429, "{repo}");
            all.push(answer);
        }
        let told = |answer: &Response| {
            let retry_after = answer.header("retry-after").map(str::to_owned);
            (answer.status, retry_after, answer.body.clone())
        };
        answers.push(all.iter().map(told).collect::<Vec<_>>());
    }
    assert!(answers[0] == answers[1]);
}

#[tokio::test]
async fn strangers_together_have_a_share_of_one_processor() {
    let limits = StrangerLimits {
        processor_time: Duration::from_nanos(10),
        ..StrangerLimits::default()
    };
    let mut public = PublicSite::start(StrangerAccess::All, limits).await;
    let path = "/app/-/raw/main/README.md";
    assert_eq!(public.ask("192.0.2.1", path).await.status, 200);
    // Another client is refused as well, since what was used counts for all.
    let refused = public.ask("192.0.2.2", path).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("10"));
    assert!(refused.body.contains("<h1>Temporarily unavailable</h1>"));
    for path in ["/healthz", "/readyz", "/login", "/robots.txt"] {
        assert_ne!(
            public.ask("192.0.2.2", path).await.header("retry-after"),
            Some("10"),
            "{path}"
        );
    }
    let metrics = public.site.get("/metrics").await.body;
    let line = "quire_stranger_requests_refused_total{limit=\"processor\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
    public.wait(10);
    assert_eq!(public.ask("192.0.2.2", path).await.status, 200);
    assert_eq!(public.ask("192.0.2.2", path).await.status, 503);
    public.site.sign_in().await;
    assert_eq!(public.ask("192.0.2.2", path).await.status, 200);
    assert_eq!(public.ask("192.0.2.2", path).await.status, 200);
}

/// Limits that no test reaches.
fn no_limits() -> StrangerLimits {
    StrangerLimits {
        burst: u32::MAX,
        processor_time: Duration::from_secs(3600),
        ..StrangerLimits::default()
    }
}

/// Pages that are more than what branches and tags point to. `OLD` and `TIP` stand for ids.
const DEEP: [&str; 15] = [
    "/app/-/blame/main/README.md",
    "/app/-/search",
    "/app/-/search?q=ledger",
    "/app/-/archive/main.tar.gz",
    "/app/-/compare/v1.0...main",
    "/app/-/compare/v1.0...main.patch",
    "/app/-/log/main?author=x",
    "/app/-/log/OLD",
    "/app/-/tree/OLD",
    "/app/-/file/OLD/README.md",
    "/app/-/raw/OLD/README.md",
    "/app/-/commit/OLD",
    "/app/-/commit/OLD.patch",
    "/app/-/commit/OLD.diff",
    "/app/-/blame/TIP/README.md",
];

/// Pages that everyone sees.
const OPEN: [&str; 14] = [
    "/",
    "/app",
    "/app/-/branches",
    "/app/-/tags",
    "/app/-/commits.atom",
    "/app/-/tree/main",
    "/app/-/log/main",
    "/app/-/log/main/README.md",
    "/app/-/file/main/README.md",
    "/app/-/raw/main/pixel.svg",
    "/app/-/raw/TIP/pixel.svg",
    "/app/-/file/TIP/README.md",
    "/app/-/commit/TIP",
    "/app/-/commit/TIP.patch",
];

/// Addresses with ids: `OLD` is on no ref's tip, `TIP` is that of a tag.
fn with_ids(path: &str, old: &str, tip: &str) -> String {
    path.replace("OLD", old).replace("TIP", tip)
}

#[tokio::test]
async fn a_button_stands_before_pages_that_take_some_work() {
    let public = PublicSite::start(StrangerAccess::Tip, no_limits()).await;
    // The tag is on the first commit; the second one is on the branch `topic/#1`.
    let repo = public.site.state.paths.repo(&"app".parse().unwrap());
    let (tip, old) = &public.commits;
    git(&repo, &["branch", "-D", "topic/#1"]);
    for path in OPEN {
        let path = with_ids(path, old, tip);
        assert_eq!(public.ask("192.0.2.1", &path).await.status, 200, "{path}");
    }
    let change = public.ask("192.0.2.1", "/app/-/change/none").await;
    assert_eq!(change.status, 403);
    for path in DEEP {
        let path = with_ids(path, old, tip);
        let page = public.ask("192.0.2.1", &path).await;
        assert_eq!(page.status, 403, "{path}");
        let (_, rest) = page
            .body
            .split_once("<form method=\"post\" action=\"")
            .unwrap();
        let (action, _) = rest.split_once('"').unwrap();
        assert!(action.starts_with("/-/visit?to="), "{action}");
        let data = public.ask_as("192.0.2.1", &path, "application/json").await;
        assert_eq!(data.status, 403, "{path}");
        assert!(
            data.json()["error"]
                .as_str()
                .unwrap()
                .contains("access token")
        );
        // The button goes on to the page that was asked for.
        let client = [
            ("X-Forwarded-For", "192.0.2.1"),
            ("Origin", "http://quire.test"),
        ];
        let pressed = public.site.send("POST", action, &client).await;
        assert_eq!(pressed.status, 303, "{path}");
        assert_eq!(pressed.header("location"), Some(path.as_str()));
        let cookies = pressed.cookies();
        assert!(cookies[0].contains("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"));
        let pass = cookies[0].split(';').next().unwrap();
        let headers = [
            ("X-Forwarded-For", "192.0.2.1"),
            ("Cookie", pass),
            ("Accept", HTML),
        ];
        let page = public.site.send("GET", &path, &headers).await;
        assert_eq!(page.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_pass_is_valid_for_a_day_and_for_its_client_alone() {
    let mut public = PublicSite::start(StrangerAccess::Tip, no_limits()).await;
    let path = "/app/-/blame/main/README.md";
    let press = "/-/visit?to=/app";
    // A page of another site cannot press it, nor can a link.
    for headers in [
        vec![],
        vec![("Origin", "https://elsewhere.example")],
        vec![("Sec-Fetch-Site", "cross-site")],
    ] {
        let pressed = public.site.send("POST", press, &headers).await;
        assert_eq!((pressed.status, pressed.cookies().len()), (403, 0));
    }
    assert_eq!(public.site.get(press).await.status, 405);
    for elsewhere in [
        "",
        "?to=//evil.example/",
        "?to=https%3A%2F%2Fevil.example",
        "?to=%2F%5Cevil",
    ] {
        let here = [("Origin", "http://quire.test")];
        let pressed = public
            .site
            .send("POST", &format!("/-/visit{elsewhere}"), &here)
            .await;
        assert_eq!(pressed.header("location"), Some("/"), "{elsewhere}");
    }
    let client = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("Origin", "http://quire.test"),
    ];
    let pressed = public.site.send("POST", press, &client).await;
    let pass = pressed.cookies()[0].split(';').next().unwrap().to_owned();
    let status = async |public: &PublicSite, address: &str, pass: &str| {
        let headers = [("X-Forwarded-For", address), ("Cookie", pass)];
        public.site.send("GET", path, &headers).await.status
    };
    assert_eq!(status(&public, "192.0.2.1", &pass).await, 200);
    assert_eq!(status(&public, "192.0.2.2", &pass).await, 403);
    let (name, value) = pass.split_once('=').unwrap();
    let (until, signature) = value.split_once('.').unwrap();
    let later = until.parse::<i64>().unwrap() + 1;
    for forged in [
        format!("{name}={later}.{signature}"),
        format!("{name}={until}."),
        format!("{name}={until}.{}", signature.to_lowercase()),
        format!("{name}={later}.{}", "A".repeat(43)),
        format!("{name}="),
    ] {
        assert_eq!(status(&public, "192.0.2.1", &forged).await, 403, "{forged}");
    }
    public.wait(24 * 60 * 60 - 1);
    assert_eq!(status(&public, "192.0.2.1", &pass).await, 200);
    public.wait(1);
    assert_eq!(status(&public, "192.0.2.1", &pass).await, 403);
    // It opens nothing that is private, and who is signed in needs none.
    let hidden = "/secret/-/blame/main/README.md";
    let pressed = public.site.send("POST", press, &client).await;
    let pass = pressed.cookies()[0].split(';').next().unwrap().to_owned();
    let headers = [("X-Forwarded-For", "192.0.2.1"), ("Cookie", pass.as_str())];
    let with_pass = public.site.send("GET", hidden, &headers).await;
    let nothing = public.site.send("GET", "/nothing", &headers).await;
    assert_eq!((with_pass.status, with_pass.body), (401, nothing.body));
    let without = public
        .site
        .send("GET", hidden, &[("X-Forwarded-For", "192.0.2.1")])
        .await;
    assert_eq!(without.status, 401);
    // The links of the test are made for that time.
    public.time.store(NOW.0, Ordering::SeqCst);
    public.site.sign_in().await;
    assert_eq!(public.site.get(path).await.status, 200);
    public.site.restart().await;
    public.site.cookie = None;
    assert_eq!(status(&public, "192.0.2.1", &pass).await, 403);
}

#[tokio::test]
async fn signed_in_is_required_where_the_configuration_says_so() {
    let mut public = PublicSite::start(StrangerAccess::SignedIn, no_limits()).await;
    let repo = public.site.state.paths.repo(&"app".parse().unwrap());
    let (tip, old) = public.commits.clone();
    git(&repo, &["branch", "-D", "topic/#1"]);
    for path in OPEN {
        let path = with_ids(path, &old, &tip);
        assert_eq!(public.ask("192.0.2.1", &path).await.status, 200, "{path}");
    }
    let here = [("Origin", "http://quire.test")];
    let pressed = public.site.send("POST", "/-/visit", &here).await;
    let pass = pressed.cookies()[0].split(';').next().unwrap();
    for path in DEEP {
        let path = with_ids(path, &old, &tip);
        let answer = public.site.send("GET", &path, &[("Cookie", pass)]).await;
        assert_eq!(answer.status, 401, "{path}");
    }
    public.site.sign_in().await;
    for path in DEEP {
        let path = with_ids(path, &old, &tip);
        assert_eq!(public.site.get(&path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_clones_a_public_repository_without_a_button() {
    for access in StrangerAccess::ALL {
        let public = PublicSite::start(access, StrangerLimits::default()).await;
        assert!(clones(&public.site, "app").await, "{access:?}");
        assert!(!clones(&public.site, "secret").await, "{access:?}");
    }
}

#[tokio::test]
async fn search_engines_may_list_the_tips_of_public_repositories() {
    let mut public = PublicSite::start(StrangerAccess::All, no_limits()).await;
    let (tip, _) = public.commits.clone();
    let robots = public.site.get("/robots.txt").await.body;
    insta::assert_snapshot!(robots, @r"
    User-agent: *
    Disallow: /runs$
    Disallow: /runs/
    Disallow: /login
    Disallow: /metrics
    Disallow: /-/visit
    Disallow: /*/-/archive/
    Disallow: /*/-/badge.svg
    Disallow: /*/-/blame/
    Disallow: /*/-/change/
    Disallow: /*/-/commit/
    Disallow: /*/-/commits.atom
    Disallow: /*/-/compare
    Disallow: /*/-/raw/
    Disallow: /*/-/runs
    Disallow: /*/-/search
    Disallow: /*?
    ");
    let listed = [
        "/app",
        "/app/-/branches",
        "/app/-/tree/main",
        "/app/-/log/main",
        "/app/-/file/main/README.md",
    ];
    let not_listed = [
        "/app/-/log/main?from=x",
        "/app/-/blame/main/README.md",
        "/app/-/search",
        "/app/-/raw/main/README.md",
        "/app/-/commits.atom",
        "/secret",
        "/login",
    ];
    let of = async |public: &PublicSite, path: &str| {
        let answer = public.ask("192.0.2.1", path).await;
        answer.header("x-robots-tag").map(str::to_owned)
    };
    for path in listed {
        assert_eq!(of(&public, path).await, None, "{path}");
    }
    assert_eq!(of(&public, "/").await.as_deref(), Some("noindex"));
    let by_id = [format!("/app/-/tree/{tip}"), format!("/app/-/commit/{tip}")];
    for path in not_listed
        .into_iter()
        .chain(by_id.iter().map(String::as_str))
    {
        let tag = of(&public, path).await;
        assert_eq!(tag.as_deref(), Some("noindex, nofollow"), "{path}");
    }
    public.site.sign_in().await;
    for path in listed {
        let tag = of(&public, path).await;
        assert_eq!(tag.as_deref(), Some("noindex, nofollow"), "{path}");
    }
}

/// Limits that no test reaches, with a short time to wait.
fn short_wait() -> StrangerLimits {
    StrangerLimits {
        max_wait: Duration::from_millis(50),
        ..no_limits()
    }
}

/// A ref of `app` that cannot be read before [`SlowRef::release`].
struct SlowRef {
    file: PathBuf,
}

impl SlowRef {
    /// Lists of branches and tags do not read it.
    const NAME: &str = "refs/other/slow";

    fn new(site: &Site) -> Self {
        let repo = site.state.paths.repo(&"app".parse().unwrap());
        let file = repo.join(Self::NAME);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        Self { file }
    }

    /// The ref is empty from now on.
    fn release(&self) {
        let mut both = std::fs::File::options();
        let both = both.read(true).write(true).open(&self.file).unwrap();
        std::fs::remove_file(&self.file).unwrap();
        drop(both);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_in_clients_do_not_wait_for_strangers() {
    let mut public = PublicSite::start(StrangerAccess::All, short_wait()).await;
    let slow = SlowRef::new(&public.site);
    public.site.sign_in().await;
    let owner = public.site.cookie.take().unwrap();
    let mut held = Vec::new();
    for _ in 0..2 {
        let path = format!("/app/-/raw/{}/README.md", SlowRef::NAME);
        let request = format!("GET {path} HTTP/1.1\r\nHost: quire.test\r\n\r\n");
        let mut stream = TcpStream::connect(public.site.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        held.push(stream);
    }
    let refused = wait_for_async("both threads to be held", async || {
        let page = public.ask("192.0.2.1", "/app/-/tree/main").await;
        (page.status == 503).then_some(page)
    })
    .await;
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert!(refused.body.contains("<h1>Temporarily unavailable</h1>"));
    let asked = [("Cookie", owner.as_str()), ("Accept", HTML)];
    for path in [
        "/",
        "/app",
        "/app/-/tree/main",
        "/app/-/blame/main/README.md",
        "/app/-/search?q=ledger",
        "/app/-/archive/main.zip",
        "/-/health",
        "/runs",
    ] {
        let page = public.site.send("GET", path, &asked).await;
        assert_eq!(page.status, 200, "{path}");
    }
    assert_ne!(
        public
            .ask("192.0.2.1", "/healthz")
            .await
            .header("retry-after"),
        Some("5")
    );
    let metrics = public.site.get("/metrics").await.body;
    assert!(
        !metrics.contains("refused_total{limit=\"places\"} 0\n"),
        "{metrics}"
    );
    slow.release();
    drop(held);
    wait_for_async("the threads to be free", async || {
        let page = public.ask("192.0.2.1", "/app/-/tree/main").await;
        (page.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_costs_much_has_few_places() {
    let limits = StrangerLimits {
        heavy_threads: 0,
        downloads: 0,
        followers: 1,
        ..short_wait()
    };
    let mut public = PublicSite::start(StrangerAccess::All, limits).await;
    configure(&public.site, "app", "{:public true :public-runs true}");
    let run = public.site.seed.run("app", "main", NOW);
    public.site.seed.start(run, NOW);
    let events = format!("/runs/{run}/events");
    let _follower = public.site.events(&events, &[]).await;
    let busy = [
        "/app/-/blame/main/README.md",
        "/app/-/search?q=ledger",
        "/app/-/archive/main.tar.gz",
        "/app/-/commit/main.patch",
        &events,
    ];
    for path in busy {
        let refused = public.ask("192.0.2.1", path).await;
        assert_eq!(refused.status, 503, "{path}");
        assert_eq!(refused.header("retry-after"), Some("5"), "{path}");
    }
    for path in ["/app", "/app/-/tree/main", "/app/-/commit/main"] {
        assert_eq!(public.ask("192.0.2.1", path).await.status, 200, "{path}");
    }
    public.site.sign_in().await;
    for path in &busy[..4] {
        assert_eq!(public.site.get(path).await.status, 200, "{path}");
    }
    let own = public.site.events(&events, &[]).await;
    assert!(own.head.starts_with("HTTP/1.1 200"), "{}", own.head);
}

#[tokio::test]
async fn more_than_a_few_do_not_wait() {
    let limits = StrangerLimits {
        queue: 0,
        max_wait: Duration::from_secs(3600),
        ..no_limits()
    };
    let mut public = PublicSite::start(StrangerAccess::All, limits).await;
    for path in [
        "/app",
        "/app/-/tree/main",
        "/app/-/commit/main",
        "/app/-/search?q=a",
    ] {
        let refused = public.ask("192.0.2.1", path).await;
        assert_eq!(refused.status, 503, "{path}");
        assert_eq!(refused.header("retry-after"), Some("5"), "{path}");
    }
    public.site.sign_in().await;
    assert_eq!(public.site.get("/app").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_have_half_of_the_places_for_clones() {
    let public = PublicSite::start(StrangerAccess::Tip, short_wait()).await;
    let site = &public.site;
    let repo = site.state.paths.repo(&"app".parse().unwrap());
    let held = [hold(site, None).await, hold(site, None).await];
    wait_for_async("two processes", async || {
        (processes(&repo) == 2).then_some(())
    })
    .await;
    let path = "/app/info/refs?service=git-upload-pack";
    let refused = site.send("GET", path, &[("Accept", "*/*")]).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert!(
        refused.body.contains("Try again in 5 s"),
        "{}",
        refused.body
    );
    assert!(!clones(site, "app").await);
    let token = site.seed.access_token("laptop", "laptop", "read", NOW);
    let own = [
        hold(site, Some(&token)).await,
        hold(site, Some(&token)).await,
    ];
    wait_for_async("four processes", async || {
        (processes(&repo) == 4).then_some(())
    })
    .await;
    drop((held, own));
    wait_for_async("their end", async || (processes(&repo) == 0).then_some(())).await;
    assert!(clones(site, "app").await);
}
