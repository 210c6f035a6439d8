//! The HTML report in a real browser: Chromium, driven by chromedriver over plain HTTP (WebDriver,
//! W3C). Each session has one page, written by the library as the program writes it.
//!
//! `SIGSIF_PAGE_KEEP` names a folder that gets the pages and what they look like.

mod support;

use serde_json::{Value, json};
use sigsif::ui::html::{Error, Page};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Home, NOW, run, skip_without, tool};

/// When the pages were made: 2027-11-25.
const MADE: i64 = 1_827_100_000;
const DAY: i64 = 86_400;

const ALICE: &str = "0123456789ABCDEF0123456789ABCDEF01234567";
const BOB: &str = "89ABCDEF0123456789ABCDEF0123456789ABCDEF";

/// Ends a script, orders text backwards, breaks lines, looks like markup.
const HOSTILE: &str = "/data/</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&amp;\u{202e}fis.\u{7}\u{2028}\n'\"`${1}.sif";

#[test]
fn only_the_one_word_is_a_yes() {
    let mut page = Page::new(MADE);
    for (verdict, schema) in [("Verified", "sigsif-verify-1"), ("", "sigsif-verify-1")] {
        let mut line = image("a.sif", verdict, None, vec![]);
        line["schema"] = json!(schema);
        page.add(&line.to_string()).expect("a line");
    }
    let text = written(&page);
    assert!(text.contains("<dt>Verified</dt><dd><b>0</b>"), "{text}");
    assert!(text.contains("<dt>Could not be judged</dt><dd><b>2</b>"));
}

#[test]
fn refuses_what_is_no_report() {
    let mut page = Page::new(MADE);
    let unknown = json!({"schema": "sigsif-verify-9", "image": "a", "verdict": "verified"});
    assert!(
        matches!(page.add(&unknown.to_string()), Err(Error::UnknownSchema(s)) if s == "sigsif-verify-9")
    );
    for line in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"schema":"sigsif-verify-1","image":"a"}"#,
    ] {
        assert!(
            matches!(page.add(line), Err(Error::NotAReport(_))),
            "{line}"
        );
    }
    assert!(page.is_empty());
}

#[test]
fn reads_what_verify_says() {
    let home = Home::with_keys();
    let mut page = Page::new(i64::try_from(NOW).expect("a time"));
    let key = support::peers("keys/p256.pub.pem");
    let names = [
        "pgp-one",
        "pgp-one.tampered-object",
        "unsigned",
        "dsse-p256",
        "pgp-one.truncated",
        "dsse-ed25519",
        "dsse-p256.object-2-ungrouped",
    ];
    for name in names {
        let image = home.copy(&format!("native/{name}.sif"), &format!("{name}.sif"));
        let mut command = home.sigsif(["verify", "--format", "json", "--local"]);
        if name == "dsse-p256" {
            command = home.sigsif(["verify", "--format", "json", "--key"]);
            command.arg(&key);
        }
        page.add(&String::from_utf8_lossy(&run(command.arg(&image)).stdout))
            .expect(name);
    }
    let text = written(&page);
    let data = data_of(&text);
    let verdicts: Vec<_> = data["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| {
            let verdict = row[0][1].as_u64().expect("a verdict");
            data["verdicts"][usize::try_from(verdict).expect("small")][0].clone()
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            "Verified",
            "Refused",
            "Not signed, or in part",
            "Verified",
            "Refused",
            "Signer not known",
            "Refused"
        ]
    );
}

#[test]
fn reports_become_a_page_by_a_command() {
    let home = Home::with_keys();
    let mut all = Vec::new();
    for name in ["pgp-one", "unsigned"] {
        let image = home.copy(&format!("native/{name}.sif"), &format!("{name}.sif"));
        let mut command = home.sigsif(["verify", "--format", "json", "--local"]);
        all.extend(run(command.arg(&image)).stdout);
    }
    let report = home.write("all.json", &all);
    let page = home.join("page.html");
    let command = |report: &std::path::Path| {
        let mut command = home.sigsif(["report", "html"]);
        command.arg(&page).arg(report);
        command
    };
    run(&mut command(&report)).expect(0);
    let text = fs::read_to_string(&page).expect("a page");
    assert!(text.contains("<h1>Signatures of 2 images</h1>"));
    assert!(text.contains("<dt>Verified</dt><dd><b>1</b>"));
    // What is cut is refused, and the page stays as it was.
    let cut = home.write("cut.json", &all[..all.len() - 20]);
    run(&mut command(&cut)).expect(255).says("report 2: EOF");
    assert_eq!(fs::read_to_string(&page).expect("a page"), text);
    run(&mut home.sigsif(["report", "html", "page.html"])).expect(1);
}

#[test]
fn many_signers_of_one_image_take_no_time() {
    let time = |count: usize| {
        let by = |n: usize| {
            let signer = pgp(&format!("{n:040X}"), "somebody", 1);
            let verdict = if n.is_multiple_of(2) {
                "valid"
            } else {
                "invalid"
            };
            signature(verdict, None, signer, true)
        };
        let line = image("a.sif", "refused", None, (0..count).map(by).collect());
        let line = line.to_string();
        let begin = Instant::now();
        let mut page = Page::new(MADE);
        page.add(&line).expect("a line");
        begin.elapsed()
    };
    // Eight times as many take about eight times as long, not sixty-four times.
    let (few, many) = (time(20_000), time(160_000));
    assert!(many < 30 * few, "{few:?}, {many:?}");
}

fn written(page: &Page) -> String {
    let mut out = Vec::new();
    page.write(&mut out).expect("memory");
    String::from_utf8(out).expect("UTF-8")
}

/// The data in a page, as a parser of HTML cuts it out.
fn data_of(text: &str) -> Value {
    let (_, rest) = text
        .split_once("<script type=\"application/json\" id=\"data\">")
        .expect("data");
    let (data, _) = rest.split_once("</script>").expect("its end");
    serde_json::from_str(data).expect("JSON")
}

/// A line of a report.
fn image(path: &str, verdict: &str, reason: Option<&str>, signatures: Vec<Value>) -> Value {
    json!({
        "schema": "sigsif-verify-1", "image": path, "path": path, "size": 40_000_000, "judgedAt": null,
        "verdict": verdict, "reason": reason, "problems": [], "missingKeys": [], "signatures": signatures,
    })
}

fn pgp(fingerprint: &str, name: &str, days: i64) -> Value {
    json!({"kind": "pgp", "fingerprint": fingerprint, "userId": name, "origin": "local", "signedAt": MADE - days * DAY})
}

fn signature(verdict: &str, reason: Option<&str>, signer: Value, intact: bool) -> Value {
    json!({
        "object": 3, "group": 1, "onlyObject": null, "format": "pgp", "legacy": false, "verdict": verdict,
        "reason": reason, "unknownSigner": reason.is_some_and(|r| r.contains("unknown")), "signer": signer,
        "objects": [
            {"id": 1, "group": 1, "type": "Def.FILE", "size": 400_000, "intact": true},
            {"id": 2, "group": 1, "type": "FS", "size": 39_000_000, "intact": intact},
        ],
    })
}

/// A report on `count` images of every kind, one of them with a hostile name.
fn report(count: usize) -> Page {
    let mut page = Page::new(MADE);
    let alice = |days| pgp(ALICE, "Alice Archer <alice@example.org>", days);
    for number in 0..count {
        let path = format!(
            "/shared/images/team-{}/project-{}/image-{number}.sif",
            number % 7,
            number % 31
        );
        let days = i64::try_from(number).expect("small") * 7 % 2500;
        let by_alice = signature("valid", None, alice(days), true);
        let mut line = match number % 20 {
            3 => {
                let reason =
                    "signature object 3 not valid: openpgp: signature made by unknown entity";
                image(
                    &path,
                    "refused",
                    Some(reason),
                    vec![signature("refused", Some(reason), Value::Null, true)],
                )
            }
            7 => image(
                &path,
                "refused",
                Some("signature not found for object group 1"),
                vec![],
            ),
            11 => {
                let reason = "data object integrity compromised: 2";
                image(
                    &path,
                    "refused",
                    Some(reason),
                    vec![signature("refused", Some(reason), alice(days), false)],
                )
            }
            13 => image(
                &path,
                "error",
                Some("invalid SIF header: descriptors outside of the file"),
                vec![],
            ),
            15 => {
                let unmet = "object group 1 is not signed by Bob Builder";
                let mut line = image(
                    &path,
                    "refused",
                    Some(&format!("policy: {unmet}")),
                    vec![by_alice],
                );
                line["problems"] = json!([format!("policy: {unmet}")]);
                line["policy"] = json!({"file": "site.toml", "rule": 2, "verdict": "notMet", "subjects": [
                    {"group": 1, "onlyObject": null, "signers": [], "distinct": 1, "unmet": [unmet]}]});
                line
            }
            17 => {
                let key = json!({"kind": "keys", "keys": [{
                "keyId": "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "spki": "00ff".repeat(16),
                "algorithm": "ECDSA P-256", "certificate": {
                    "subject": "CN=Release signing,O=Example", "issuer": "CN=Example CA", "serial": "0a",
                    "fingerprint": "ab".repeat(32), "notBefore": 1_700_000_000, "notAfter": 1_900_000_000,
                    "path": [
                        {"subject": "CN=Release signing,O=Example", "revocation": {"source": "ocsp", "thisUpdate": 1_800_000_000}},
                        {"subject": "CN=Example CA", "revocation": null},
                    ]}}]});
                image(
                    &path,
                    "verified",
                    None,
                    vec![signature("valid", None, key, true)],
                )
            }
            number => {
                let bob = signature(
                    "valid",
                    None,
                    pgp(BOB, "Bob Builder <bob@example.org>", days + 9),
                    true,
                );
                let both = if number % 3 == 0 {
                    vec![by_alice, bob]
                } else {
                    vec![by_alice]
                };
                image(&path, "verified", None, both)
            }
        };
        line["size"] = json!(39_500_000 + number * 7919 % 90_000_000);
        if number == 4 {
            line["coverage"] = json!({"verdict": "complete", "ranges": [], "twins": [],
                "bytes": {"signed": 30_000_000, "fixed": 9_000_000, "free": 500_032, "uncovered": 0}});
        }
        page.add(&line.to_string()).expect("a line");
    }
    let mallory = pgp(ALICE, "Mallory \u{202e}</script><b>", 1);
    let line = image(
        HOSTILE,
        "refused",
        Some("<img src=x onerror=alert(1)>\u{202e}"),
        vec![signature("refused", Some("</script>"), mallory, true)],
    );
    page.add(&line.to_string()).expect("a line");
    page
}

#[test]
fn hostile_text_never_ends_its_place() {
    let text = written(&report(40));
    let (head, script) = text
        .split_once("<script type=\"application/json\" id=\"data\">")
        .expect("data");
    let (data, tail) = script.split_once("</script>").expect("its end");
    assert!(
        tail.trim_start().starts_with("<script>"),
        "the data ends early"
    );
    assert!(!data.contains(['<', '>', '&', '\u{202e}', '\u{2028}', '\u{7}']));
    assert!(!head.contains("<img") && !head.contains("<b>Mallory") && !head.contains('\u{202e}'));
    let shown = data_of(&text)["rows"][40][0][0].clone();
    let expected = HOSTILE
        .replace('\u{202e}', "\\u{202e}")
        .replace('\u{7}', "\\x07")
        .replace('\u{2028}', "\\u{2028}")
        .replace('\n', "\\n");
    assert_eq!(shown, expected);
}

#[test]
fn people_can_sort_search_and_read() {
    let Some(browser) = Browser::start() else {
        return;
    };
    browser.open("people", &report(300));
    // It says what there is, the worst first.
    assert_eq!(browser.text("#status"), "301 images");
    assert_eq!(browser.text(".tile.ok b"), "225");
    assert_eq!(browser.text("#table tbody tr td"), "✕\nRefused");
    assert_eq!(
        browser.sorted(),
        ["ascending", "none", "none", "none", "none", "none"]
    );

    // The mouse sorts.
    browser.click("[data-sort=size]");
    assert_eq!(
        browser.sorted(),
        ["none", "none", "none", "none", "ascending", "none"]
    );
    let sizes = |browser: &Browser| browser.column(SIZE);
    let up = sizes(&browser);
    assert!(up.is_sorted(), "{up:?}");
    browser.click("[data-sort=size]");
    let down = sizes(&browser);
    assert!(down.is_sorted_by(|a, b| a >= b), "{down:?}");
    assert_eq!(browser.sorted()[4], "descending");

    // So does the keyboard, which stays where it was.
    browser.focus("[data-sort=covered]");
    browser.keys("\u{e008}\u{e004}"); // Shift, Tab: back to the size
    assert_eq!(
        browser.value("return document.activeElement.dataset.sort"),
        "size"
    );
    browser.keys("\u{e008}\u{e004}");
    browser.keys("\u{e008}\u{e004}");
    browser.keys("\u{e008}\u{e004}");
    assert_eq!(
        browser.value("return document.activeElement.dataset.sort"),
        "path"
    );
    browser.keys("\u{e007}"); // Enter
    assert_eq!(
        browser.sorted(),
        ["none", "ascending", "none", "none", "none", "none"]
    );
    let paths = browser.value(
        "return [...document.querySelectorAll('#table tbody th bdi')].map(e => e.textContent)",
    );
    assert_eq!(paths[1], "/shared/images/team-0/project-0/image-0.sif");
    assert_eq!(paths[2], "/shared/images/team-0/project-0/image-217.sif");
    assert_eq!(
        browser.value("return document.activeElement.dataset.sort"),
        "path"
    );

    // Filters: the list, a bar of a chart, words; all together.
    browser.choose("#verdict", "2");
    assert_eq!(browser.text("#status"), "15 of 301 images");
    assert_eq!(browser.text("#table tbody tr td"), "?\nSigner not known");
    browser.click("#clear");
    browser.click("figure [data-verdict='1']");
    assert_eq!(browser.text("#status"), "15 of 301 images");
    assert_eq!(browser.value("return document.querySelector('figure [data-verdict=\"1\"]').getAttribute('aria-pressed')"), "true");
    browser.click("figure [data-verdict='1']");
    assert_eq!(browser.text("#status"), "301 images");
    browser.click("figure [data-signer]");
    assert_eq!(browser.text("#status"), "225 of 301 images");
    browser.click("#search");
    browser.keys("BOB Team-3");
    assert_eq!(browser.text("#status"), "12 of 301 images");
    browser.click("#clear");
    browser.click("#search");
    browser.keys("no such image");
    assert_eq!(browser.text("#status"), "0 of 301 images");
    assert_eq!(browser.text("#table tbody"), "No image is like that.");
    browser.click("#clear");

    // Details by the keyboard, and away again.
    browser.choose("#verdict", "5");
    browser.focus("#table tbody .toggle");
    browser.keys("\u{e007}");
    assert_eq!(
        browser.value("return document.activeElement.getAttribute('aria-expanded')"),
        "true"
    );
    let details = browser.text("#table tbody tr.detail");
    for text in [
        ALICE,
        "group 1",
        "1 Def.FILE, 2 FS",
        "OpenPGP",
        "39,400,000 bytes",
    ] {
        assert!(details.contains(text), "no {text:?} in {details}");
    }
    browser.keys(" ");
    assert_eq!(
        browser.value("return document.querySelectorAll('tr.detail').length"),
        0
    );
    browser.click("#clear");

    // Pages.
    assert_eq!(browser.text("#place"), "1–100 of 301");
    browser.click("#last");
    assert_eq!(browser.text("#place"), "301–301 of 301");
    browser.choose("#rows", "500");
    assert_eq!(browser.text("#place"), "1–301 of 301");
    browser.has_been_quiet();
}

#[test]
fn looks_right_by_day_by_night_and_on_paper() {
    let Some(browser) = Browser::start() else {
        return;
    };
    browser.media(json!([{"name": "prefers-color-scheme", "value": "light"}]));
    browser.open("looks", &report(300));
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let (light, dark) = ("rgb(246, 247, 249)", "rgb(15, 19, 24)");
    assert_eq!(browser.value(ground), light);
    let unreadable = browser.value(CONTRAST);
    assert_eq!(unreadable, json!([]), "too little contrast by day");
    browser.keep("light");
    browser.click("#table tbody .toggle");
    browser.value("document.querySelector(\"tr.row\").scrollIntoView()");
    browser.keep("details");
    browser.click("#theme");
    assert_eq!(browser.value(ground), dark);
    assert_eq!(browser.text("#theme"), "Light");
    browser.click("#theme");
    assert_eq!(browser.value(ground), light);
    browser.media(json!([{"name": "prefers-color-scheme", "value": "dark"}]));
    browser.open("looks", &report(300));
    assert_eq!(browser.value(ground), dark);
    assert_eq!(browser.text("#theme"), "Light");
    assert_eq!(
        browser.value(CONTRAST),
        json!([]),
        "too little contrast by night"
    );
    browser.keep("dark");
    browser.click("#theme");
    assert_eq!(browser.value(ground), light);

    // Narrow: nothing needs scrolling sideways.
    browser.call("POST", "/window/rect", json!({"width": 500, "height": 900}));
    browser.keep("narrow");
    let over = browser.value("return document.documentElement.scrollWidth - innerWidth");
    assert!(over.as_i64().is_some_and(|over| over <= 0), "{over}");

    // On paper is everything that was chosen, not only the page of the table.
    browser.choose("#verdict", "5");
    let pdf = browser.call("POST", "/print", json!({"background": true}));
    let pdf = decoded(&pdf);
    assert!(pdf.starts_with(b"%PDF-"));
    browser.keep_bytes("print.pdf", &pdf);
    let printed = browser.value("let n = 0; dispatchEvent(new Event('beforeprint')); n = document.querySelectorAll('tr.row').length; dispatchEvent(new Event('afterprint')); return [n, document.querySelectorAll('tr.row').length]");
    assert_eq!(printed, json!([225, 100]));
    browser.has_been_quiet();
}

#[test]
fn hostile_text_is_only_text() {
    let Some(browser) = Browser::start() else {
        return;
    };
    browser.open("hostile", &report(3));
    assert_ne!(browser.value("return document.title"), "owned");
    assert_eq!(
        browser.value("return document.querySelectorAll('img, b > b, #table b, script').length"),
        2,
        "two scripts"
    );
    browser.click("#table tbody .toggle");
    let shown = browser.text("tr.detail");
    assert!(
        shown.contains("</script><script>document.title='owned'"),
        "{shown}"
    );
    assert!(shown.contains("\\u{202e}fis") && !shown.contains('\u{202e}'));
    // What came in by another way would not run either.
    browser.value("const s = document.createElement('script'); s.textContent = 'document.title = \"owned\"'; document.body.append(s)");
    assert_ne!(browser.value("return document.title"), "owned");
    let refused = browser.log();
    assert!(
        refused
            .iter()
            .any(|line| line.contains("Content Security Policy")),
        "{refused:?}"
    );
}

#[test]
fn a_plain_table_without_script() {
    let Some(browser) = Browser::start() else {
        return;
    };
    browser.cdp(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": true}),
    );
    browser.open("plain", &report(300));
    browser.keep("plain");
    let rows = browser.elements("noscript tbody tr");
    assert_eq!(rows.len(), 301);
    assert!(
        browser
            .elements("#app")
            .iter()
            .all(|id| !browser.is_displayed(id))
    );
    assert!(
        browser
            .text("noscript tbody tr:first-child")
            .contains("image-0.sif")
    );
    assert_eq!(browser.text(".tile.ok b"), "225");
    browser.has_been_quiet();
}

#[test]
fn ten_thousand_images_are_no_burden() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let (size, load) = browser.open("many", &report(9_999));
    let search = browser.value("const start = performance.now(); const s = document.getElementById('search'); s.value = 'image-99'; s.dispatchEvent(new Event('input')); document.body.offsetHeight; return performance.now() - start");
    assert_eq!(browser.text("#status"), "110 of 10,000 images");
    let sort = browser.value("document.getElementById('clear').click(); const start = performance.now(); document.querySelector('[data-sort=signers]').click(); document.body.offsetHeight; return performance.now() - start");
    eprintln!(
        "10,000 images: {size} bytes, loaded in {load:?}; search {search} ms, sort {sort} ms"
    );
    assert!(size < 12 << 20, "{size} bytes");
    assert!(load < Duration::from_secs(15), "{load:?}");
    browser.has_been_quiet();
}

/// Text whose contrast with its ground is below 4.5 (WCAG 2.2, 1.4.3), by the rules of the page.
const CONTRAST: &str = r#"
const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length === 3 ? [...m, 1] : m; };
const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
const bad = new Set();
for (const e of document.querySelectorAll("body *")) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility()) continue;
  if (e.closest("script, style, noscript, option, button:disabled")) continue;
  const style = getComputedStyle(e);
  const ink = parse(e.closest("svg") ? style.fill : style.color);
  const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) bad.add(`${e.tagName}.${e.className.baseVal ?? e.className}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
}
return [...bad];"#;

/// Sizes of the rows in the table, of the data.
const SIZE: usize = 3;

/// The keys of an element in answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A session of Chromium, ended when dropped.
struct Browser {
    driver: Child,
    client: reqwest::blocking::Client,
    session: String,
    home: Home,
}

impl Browser {
    /// Starts one, or says why not.
    fn start() -> Option<Self> {
        let chromium = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find_map(tool);
        let (Some(chromium), Some(driver)) = (chromium, tool("chromedriver")) else {
            skip_without("chromium with chromedriver");
            return None;
        };
        let home = Home::new();
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let lines = BufReader::new(driver.stdout.take().expect("stdout")).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let client = reqwest::blocking::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(120))
            .build()
            .expect("a client");
        let mut this = Self {
            driver,
            client,
            session: format!("http://127.0.0.1:{}/session", port.expect("a port")),
            home,
        };
        let args = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--window-size=1440,1000",
            "--hide-scrollbars",
            format!("--user-data-dir={}", this.home.join("profile").display()),
        ]);
        let answer = this.call(
            "POST",
            "",
            json!({"capabilities": {"alwaysMatch": {
                "goog:chromeOptions": {"binary": chromium, "args": args},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }}}),
        );
        this.session += &format!("/{}", answer["sessionId"].as_str().expect("a session"));
        Some(this)
    }

    /// A command of WebDriver and the value of its answer.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.session);
        let request = match method {
            "GET" => self.client.get(url),
            "DELETE" => self.client.delete(url),
            _ => self.client.post(url).body(body.to_string()),
        };
        let text = request
            .send()
            .and_then(|answer| answer.text())
            .expect("an answer");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        let value = answer["value"].take();
        assert!(value["error"].is_null(), "{method} {path} {body}: {value}");
        value
    }

    /// Writes a page and opens it; returns its size and how long it took to load.
    #[track_caller]
    fn open(&self, name: &str, page: &Page) -> (usize, Duration) {
        let text = written(page);
        let path = self.home.write(&format!("{name}.html"), text.as_bytes());
        self.keep_bytes(&format!("{name}.html"), text.as_bytes());
        let start = Instant::now();
        self.call(
            "POST",
            "/url",
            json!({"url": format!("file://{}", path.display())}),
        );
        (text.len(), start.elapsed())
    }

    #[track_caller]
    fn value(&self, script: &str) -> Value {
        self.call(
            "POST",
            "/execute/sync",
            json!({"script": script, "args": []}),
        )
    }

    #[track_caller]
    fn cdp(&self, command: &str, params: Value) {
        self.call(
            "POST",
            "/goog/cdp/execute",
            json!({"cmd": command, "params": params}),
        );
    }

    #[track_caller]
    fn media(&self, features: Value) {
        self.cdp("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    fn elements(&self, css: &str) -> Vec<String> {
        let found = self.call(
            "POST",
            "/elements",
            json!({"using": "css selector", "value": css}),
        );
        let found = found.as_array().expect("elements").iter();
        found
            .map(|e| e[ELEMENT].as_str().expect("an id").to_owned())
            .collect()
    }

    #[track_caller]
    fn element(&self, css: &str) -> String {
        let mut found = self.elements(css).into_iter();
        found.next().unwrap_or_else(|| panic!("no {css}"))
    }

    #[track_caller]
    fn click(&self, css: &str) {
        self.call(
            "POST",
            &format!("/element/{}/click", self.element(css)),
            json!({}),
        );
    }

    #[track_caller]
    fn choose(&self, css: &str, value: &str) {
        let option = match self
            .elements(&format!("{css} option[value='{value}']"))
            .is_empty()
        {
            false => self.element(&format!("{css} option[value='{value}']")),
            true => {
                let all = self.elements(&format!("{css} option"));
                all.into_iter()
                    .find(|id| self.text_of(id) == value)
                    .expect("an option")
            }
        };
        self.call("POST", &format!("/element/{option}/click"), json!({}));
    }

    #[track_caller]
    fn text(&self, css: &str) -> String {
        self.text_of(&self.element(css))
    }

    fn text_of(&self, id: &str) -> String {
        let text = self.call("GET", &format!("/element/{id}/text"), Value::Null);
        text.as_str().expect("text").to_owned()
    }

    fn is_displayed(&self, id: &str) -> bool {
        self.call("GET", &format!("/element/{id}/displayed"), Value::Null) == true
    }

    fn focus(&self, css: &str) {
        self.value(&format!("document.querySelector(\"{css}\").focus()"));
    }

    /// Presses keys one after the other; Shift is held for the one behind it.
    fn keys(&self, keys: &str) {
        let (mut actions, mut shift) = (Vec::new(), false);
        for key in keys.chars() {
            actions.push(json!({"type": "keyDown", "value": key}));
            if key == '\u{e008}' {
                shift = true;
                continue;
            }
            actions.push(json!({"type": "keyUp", "value": key}));
            if std::mem::take(&mut shift) {
                actions.push(json!({"type": "keyUp", "value": "\u{e008}"}));
            }
        }
        self.call(
            "POST",
            "/actions",
            json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}),
        );
    }

    /// How each column says that it is sorted.
    fn sorted(&self) -> Vec<String> {
        let all = self.value("return [...document.querySelectorAll('#table > thead th')].map(e => e.getAttribute('aria-sort'))");
        let all = all.as_array().expect("heads").iter();
        all.map(|value| value.as_str().expect("a word").to_owned())
            .collect()
    }

    /// Numbers that belong to the rows as they stand, from the data.
    fn column(&self, cell: usize) -> Vec<u64> {
        let script = format!(
            "const rows = JSON.parse(document.getElementById('data').textContent).rows; return [...document.querySelectorAll('tr.row')].map(e => rows[e.dataset.row][0][{cell}])"
        );
        let all = self.value(&script);
        let all: Vec<_> = all
            .as_array()
            .expect("rows")
            .iter()
            .map(|n| n.as_u64().expect("a number"))
            .collect();
        assert_eq!(all.len(), 100);
        all
    }

    /// What was said on the console, errors of scripts and of policies among it.
    fn log(&self) -> Vec<String> {
        let lines = self.call("POST", "/se/log", json!({"type": "browser"}));
        lines
            .as_array()
            .expect("lines")
            .iter()
            .map(|line| line["message"].to_string())
            .collect()
    }

    /// Nothing was said on the console, and nothing but the file was asked for.
    #[track_caller]
    fn has_been_quiet(&self) {
        assert_eq!(self.log(), [""; 0]);
        let events = self.call("POST", "/se/log", json!({"type": "performance"}));
        let mut files = 0;
        for event in events.as_array().expect("events") {
            let event: Value =
                serde_json::from_str(event["message"].as_str().expect("text")).expect("JSON");
            let message = &event["message"];
            // Chromium asks for pages of its own before the first one that it is sent to.
            let of_page = message["params"]["documentURL"].as_str();
            if message["method"] == "Network.requestWillBeSent"
                && of_page.is_some_and(|url| url.starts_with("file:"))
            {
                let url = message["params"]["request"]["url"].as_str();
                assert_eq!(url, of_page, "asked for more than itself");
                files += 1;
            }
        }
        assert!(files > 0, "the log of requests is empty");
    }

    /// Keeps what the page looks like, where that is wanted.
    fn keep(&self, name: &str) {
        if std::env::var_os("SIGSIF_PAGE_KEEP").is_some() {
            let picture = self.call("GET", "/screenshot", Value::Null);
            self.keep_bytes(&format!("{name}.png"), &decoded(&picture));
        }
    }

    fn keep_bytes(&self, name: &str, bytes: &[u8]) {
        if let Some(folder) = std::env::var_os("SIGSIF_PAGE_KEEP").map(PathBuf::from) {
            fs::write(folder.join(name), bytes).expect("a file to keep");
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session, and that also when a test fails.
        let _ = self.client.delete(&self.session).send();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn decoded(text: &Value) -> Vec<u8> {
    use base64::Engine as _;
    let text = text.as_str().expect("text");
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("base64")
}
