// Makes the pages live. Without it they show the same, as of when they were loaded.
(() => {
  'use strict';
  const doc = document;
  const body = doc.body;
  const byId = (id) => doc.getElementById(id);
  const make = (html) => { const t = doc.createElement('template'); t.innerHTML = html; return t.content; };
  const skew = body.dataset.now ? Date.now() - Number(body.dataset.now) : 0;
  const now = () => Date.now() - skew;

  // Times: the same words as the server's (crates/web/src/html.rs, crates/types/src/text.rs).
  const ago = (ms) => {
    const m = Math.floor(Math.max(ms, 0) / 60000);
    if (m < 1) return 'just now';
    if (m < 60) return m + ' min ago';
    if (m < 1440) return Math.floor(m / 60) + ' h ago';
    if (m < 2880) return 'yesterday';
    return m < 86400 ? Math.floor(m / 1440) + ' days ago' : Math.floor(m / 43200) + ' months ago';
  };
  const lasting = (ms) => {
    const s = Math.max(Math.round(ms / 1000), 0);
    if (s < 60) return s + ' s';
    if (s < 3600) return Math.floor(s / 60) + ' min ' + s % 60 + ' s';
    if (s < 86400) return Math.floor(s / 3600) + ' h ' + Math.floor(s % 3600 / 60) + ' min';
    return Math.floor(s / 86400) + ' d ' + Math.floor(s % 86400 / 3600) + ' h';
  };
  const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const tick = () => {
    for (const n of doc.querySelectorAll('[data-t]')) put(n, ago(now() - n.dataset.t));
    for (const n of doc.querySelectorAll('[data-since]')) put(n, lasting(now() - n.dataset.since));
    for (const n of doc.querySelectorAll('[data-until]')) n.hidden = now() >= n.dataset.until;
  };
  setInterval(tick, 1000);

  // An event stream that reconnects by itself, also across a restart of the server.
  // A list in a hidden tab closes its stream: a browser has six connections to a server.
  const stream = (path, place, always, on) => {
    let source = null, timer = 0, wait = 500, over = false;
    const close = () => { if (source) source.close(); source = null; clearTimeout(timer); timer = 0; };
    const open = () => {
      close();
      if (over || (doc.hidden && !always)) return;
      source = new EventSource(path + (place ? '?after=' + encodeURIComponent(place) : ''));
      source.onopen = () => { wait = 500; body.classList.remove('offline'); };
      source.onerror = () => {
        body.classList.add('offline');
        // A connection that broke is tried again by the browser, an answer that was no stream is not.
        if (source && source.readyState === EventSource.CLOSED) {
          close();
          timer = setTimeout(open, wait);
          wait = Math.min(wait * 2, 15000);
        }
      };
      for (const name of Object.keys(on)) {
        source.addEventListener(name, (event) => {
          if (event.lastEventId) place = event.lastEventId;
          on[name](JSON.parse(event.data));
          if (name === 'end') { over = true; close(); }
        });
      }
    };
    doc.addEventListener('visibilitychange', () => {
      if (!always && doc.hidden) close(); else if (!source && !timer) open();
    });
    addEventListener('pagehide', close);
    addEventListener('pageshow', (event) => { if (event.persisted) open(); });
    open();
  };

  // Lists: when something changed, load this very page again and take its list.
  const list = doc.querySelector('[data-live]');
  if (list) {
    let busy = false, again = false;
    const load = async () => {
      if (busy) { again = true; return; }
      busy = true;
      try {
        const answer = await fetch(location.href, { headers: { accept: 'text/html' } });
        if (answer.status === 401 || answer.status === 404) { location.reload(); return; }
        const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').querySelector('[data-live]');
        if (fresh && fresh.innerHTML !== list.innerHTML) {
          const focus = list.contains(doc.activeElement) && doc.activeElement.getAttribute('href');
          list.replaceChildren(...fresh.childNodes);
          if (focus) for (const a of list.querySelectorAll('a')) if (a.getAttribute('href') === focus) { a.focus({ preventScroll: true }); break; }
        }
      } catch { /* the stream notices, and comes back */ }
      busy = false;
      if (again) { again = false; setTimeout(load, 500); }
    };
    stream(list.dataset.live, '', false, { changed: load });
  }

  // A link to a line opens the step that it is in.
  const reveal = () => {
    const line = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    const step = line && line.closest('details');
    if (step && !step.open) { step.open = true; line.scrollIntoView({ block: 'center' }); }
  };
  addEventListener('hashchange', reveal);
  reveal();

  // Keys: each does what a link or a field of the page does.
  const open = (key) => () => { const link = doc.querySelector('[data-key=' + key + ']'); if (link) location.assign(link.dataset.href || link.href); };
  const help = doc.createElement('dialog');
  const keys = {
    '/': ['Search', () => { const field = doc.querySelector('[type=search], [name=q]'); if (field) { field.focus(); field.select(); } }],
    t: ['Find a path', open('t')],
    y: ['Permanent link to this page', open('y')],
    '?': ['Show the keys', () => { if (help.open) help.close(); else help.showModal(); }],
  };
  for (const [key, [what]] of Object.entries(keys)) {
    const row = help.appendChild(doc.createElement('p'));
    row.append(Object.assign(doc.createElement('kbd'), { textContent: key }), ' ' + what);
  }
  help.className = 'keys';
  help.setAttribute('aria-label', 'Keys');
  body.append(help);
  addEventListener('keydown', (event) => {
    const { target } = event;
    const writes = target.closest && target.closest('input, textarea, select, [contenteditable]');
    if (writes || event.ctrlKey || event.altKey || event.metaKey || event.isComposing || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key][1]();
  });

  const run = byId('run');
  if (!run || !run.dataset.events) return;

  const MOST_LINES = 6000;
  const touched = new WeakSet();
  run.addEventListener('click', (event) => {
    const summary = event.target.closest('summary');
    if (summary) touched.add(summary.parentNode);
  });

  const follow = byId('follow');
  const button = follow.querySelector('button');
  let following = !location.hash, latest = null;
  const setFollowing = (on) => { following = on; button.setAttribute('aria-pressed', String(on)); };
  const show = () => {
    if (!following || !latest || !latest.closest('details').open) return;
    const below = latest.getBoundingClientRect().bottom - innerHeight + 72;
    if (below > 0) scrollBy(0, below);
  };
  button.addEventListener('click', () => { setFollowing(!following); show(); });
  for (const name of ['wheel', 'touchmove']) addEventListener(name, () => setFollowing(false), { passive: true });
  addEventListener('keydown', (event) => { if (/^(Arrow|Page)Up$|^Home$/.test(event.key)) setFollowing(false); });
  setFollowing(following);
  follow.hidden = false;

  const jobOf = (id) => [...doc.querySelectorAll('.job')].find((n) => n.dataset.job === id);
  const stepOf = (id) => byId('step-' + id);

  const onJob = (job) => {
    let node = jobOf(job.id);
    if (!node) {
      node = doc.createElement('section');
      node.className = 'job';
      node.dataset.job = job.id;
      node.append(doc.createElement('header'));
      byId('jobs').append(node);
      byId('none').hidden = true;
    }
    node.querySelector('header').replaceChildren(make(job.html));
  };
  // The step that ended last stays open until another one begins, so that its output can be read.
  let ended = null;
  const fold = (node, isOpen) => {
    if (node.open && !isOpen && doc.querySelectorAll('.job .step[open]').length === 1) { ended = node; return; }
    if (isOpen && ended && ended !== node) { if (!touched.has(ended)) ended.open = false; ended = null; }
    node.open = isOpen;
  };
  const onStep = (step) => {
    let node = stepOf(step.seq);
    if (!node) {
      const job = jobOf(step.job);
      if (!job) return;
      node = doc.createElement('details');
      node.className = 'step';
      node.id = 'step-' + step.seq;
      node.append(doc.createElement('summary'));
      if (step.command) {
        const command = node.appendChild(doc.createElement('pre'));
        command.className = 'long';
        command.textContent = step.command;
      }
      const log = node.appendChild(doc.createElement('pre'));
      log.className = 'log';
      log.dataset.prefix = step.prefix;
      log.dataset.next = 1;
      job.append(node);
    }
    node.querySelector('summary').replaceChildren(make(step.html));
    if (!touched.has(node)) fold(node, step.open);
  };

  // Lines: [step, flags, html]; 1 standard error, 2 the line goes on, 4 it begins anew, 8 the log ends here for its size.
  const onLines = (lines) => {
    const fresh = new Map();
    for (const [seq, flags, html] of lines) {
      if (flags & 8) byId('capped').hidden = false;
      const step = stepOf(seq);
      if (!step) continue;
      const log = step.querySelector('.log');
      if (!fresh.has(log)) fresh.set(log, doc.createDocumentFragment());
      const last = fresh.get(log).lastChild || log.lastElementChild;
      const isError = (flags & 1) > 0;
      let line = last;
      if (last && 'open' in last.dataset && last.classList.contains('e') === isError) {
        if (flags & 4) last.replaceChildren(last.firstChild);
        last.append(make(html));
      } else {
        const number = Number(log.dataset.next);
        log.dataset.next = number + 1;
        line = doc.createElement('span');
        line.className = isError ? 'l e' : 'l';
        line.id = log.dataset.prefix + number;
        const link = doc.createElement('a');
        link.href = '#' + encodeURIComponent(line.id);
        link.tabIndex = -1;
        link.textContent = number;
        line.append(link, make(html));
        fresh.get(log).append(line);
      }
      if (flags & 2) line.dataset.open = ''; else delete line.dataset.open;
    }
    for (const [log, lines] of fresh) {
      log.append(lines);
      const step = log.parentNode;
      step.hidden = false;
      if (step.id === 'step-0' && !touched.has(step)) step.open = !doc.querySelector('.job .step');
      // A page has to stay usable; the plain log has it all.
      let many = log.childElementCount - MOST_LINES;
      if (many > 0) {
        let cut = step.querySelector('.cut');
        if (!cut) {
          cut = doc.createElement('p');
          cut.className = 'cut';
          cut.innerHTML = 'Earlier lines are in the <a>plain log</a>.';
          cut.querySelector('a').href = run.dataset.log + (step.id === 'step-0' ? '' : '?step=' + step.id.slice(5));
          log.before(cut);
        }
        while (many-- > 0) log.firstElementChild.remove();
      }
      latest = log;
    }
    show();
  };

  stream(run.dataset.events, run.dataset.after, true, {
    state: (news) => {
      if (news.title) doc.title = news.title;
      if (news.head) byId('head').replaceChildren(make(news.head));
      if (news.artifacts !== undefined) byId('artifacts').replaceChildren(make(news.artifacts));
      (news.jobs || []).forEach(onJob);
      (news.steps || []).forEach(onStep);
      tick();
    },
    log: onLines,
    end: () => {
      follow.hidden = true;
      put(byId('none'), 'No job ran.');
      const own = stepOf(0);
      if (!touched.has(own)) own.open = !doc.querySelector('.job .step');
    },
  });
})();
