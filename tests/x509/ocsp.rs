//! Answers of OpenSSL's responder, and what they are worth.

use super::lab::{AS_IS, Party, extension, key, no_check, responders, root, tlv};
use super::server::{Entry, OpenSsl, RESPONDER, Seen, Server, http, write_database};
use super::support;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose as Eku, KeyUsagePurpose as Ku};
use rcgen::{SerialNumber, date_time_ymd};
use sigsif::key::ocsp::{Answer, Error, Query, Status};
use sigsif::key::x509::Moment;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("clock")
        .as_secs()
}

/// Root, and a signer with serial number 17.
struct House {
    top: Party,
    signer: Party,
    folder: tempfile::TempDir,
}

fn serial(serial: u64) -> impl Fn(&mut CertificateParams) {
    move |p| p.serial_number = Some(SerialNumber::from(serial))
}

impl House {
    /// Nothing without OpenSSL.
    fn new() -> Option<Self> {
        if support::tool("openssl").is_none() {
            support::skip_without("openssl");
            return None;
        }
        let top = root("Root", key(), AS_IS);
        let signer = top.signer("Signer", key(), &serial(17));
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self {
            top,
            signer,
            folder,
        })
    }

    fn query(&self) -> Query {
        Query::new(&self.signer.certificate(), &self.top.certificate()).expect("a question")
    }

    /// What OpenSSL answers to a question.
    fn answer(&self, question: &[u8], entries: &[Entry], by: &Party, more: &[&str]) -> Vec<u8> {
        respond(self.folder.path(), question, entries, &self.top, by, more)
    }

    /// Asks OpenSSL and judges the answer now.
    fn ask(&self, entries: &[Entry], by: &Party) -> Result<Answer, Error> {
        let query = self.query();
        query.judge(
            &self.answer(query.request(), entries, by, &[]),
            Moment::now(clock()),
        )
    }

    fn delegate(&self, change: &dyn Fn(&mut CertificateParams)) -> Party {
        self.top.signer("Responder", key(), &|p| {
            p.extended_key_usages = vec![Eku::OcspSigning];
            change(p);
        })
    }
}

fn respond(
    folder: &Path,
    question: &[u8],
    entries: &[Entry],
    issuer: &Party,
    by: &Party,
    more: &[&str],
) -> Vec<u8> {
    write_database(folder, entries, issuer, by);
    std::fs::write(folder.join("question"), question).expect("question");
    let mut command = Command::new("openssl");
    command
        .args(RESPONDER)
        .args(["-reqin", "question", "-respout", "answer"])
        .args(more)
        .current_dir(folder);
    support::run(&mut command).expect(0);
    std::fs::read(folder.join("answer")).expect("answer")
}

const GOOD: &[Entry] = &[('V', 17)];

#[test]
fn an_issuer_says_good_revoked_unknown() {
    let Some(house) = House::new() else { return };
    let good = house.ask(GOOD, &house.top).expect("an answer");
    assert_eq!(good.status, Status::Good);
    assert!(good.nonce && good.delegate.is_none() && good.next_update.is_none());
    let revoked = house
        .ask(&[('V', 3), ('R', 17)], &house.top)
        .expect("an answer");
    assert_eq!(
        revoked.status,
        Status::Revoked {
            at: 1_609_459_200,
            reason: 1
        }
    );
    let unknown = house.ask(&[('V', 3)], &house.top).expect("an answer");
    assert_eq!(unknown.status, Status::Unknown);
}

#[test]
fn only_a_delegate_of_the_issuer_itself_may_speak_for_it() {
    let Some(house) = House::new() else { return };
    let delegate = house.delegate(AS_IS);
    let answer = house.ask(GOOD, &delegate).expect("an answer");
    assert_eq!(answer.delegate, Some(delegate.certificate()));
    assert_eq!(answer.status, Status::Good);
    let elsewhere = root("Root", key(), AS_IS);
    let below = house.top.ca("Intermediate", key(), AS_IS);
    let refused: &[(&str, Party)] = &[
        (
            "a signer of code",
            house.top.signer("Responder", key(), AS_IS),
        ),
        (
            "any usage",
            house.delegate(&|p| p.extended_key_usages = vec![Eku::Any]),
        ),
        (
            "no usage",
            house.delegate(&|p| p.extended_key_usages = Vec::new()),
        ),
        (
            "expired",
            house.delegate(&|p| p.not_after = date_time_ymd(2021, 1, 1)),
        ),
        (
            "not for signatures",
            house.delegate(&|p| p.key_usages = vec![Ku::KeyEncipherment]),
        ),
        (
            "unknown critical extension",
            house
                .delegate(&|p| p.custom_extensions = vec![extension(&[1, 2, 3, 4], true, &[5, 0])]),
        ),
        (
            "the signer itself",
            house.top.signer("Signer", key(), &serial(17)),
        ),
        (
            "delegate of another root of that name",
            elsewhere.signer("Responder", key(), &|p| {
                p.extended_key_usages = vec![Eku::OcspSigning];
            }),
        ),
        (
            "delegate of an intermediate",
            below.signer("Responder", key(), &|p| {
                p.extended_key_usages = vec![Eku::OcspSigning];
            }),
        ),
        ("another root of that name", elsewhere),
    ];
    for (name, party) in refused {
        let refusal = house.ask(GOOD, party).expect_err(name);
        assert!(
            matches!(refusal, Error::Responder(_)),
            "{name}: {refusal:?}"
        );
    }
    // Without the certificate nobody knows whose signature it is.
    let query = house.query();
    let answer = house.answer(query.request(), GOOD, &delegate, &["-resp_no_certs"]);
    assert_eq!(
        query.judge(&answer, Moment::now(clock())),
        Err(Error::Signature)
    );
    // The issuer is known without its certificate, by name and by key.
    for more in [
        &["-resp_no_certs"][..],
        &["-resp_key_id"],
        &["-resp_no_certs", "-resp_key_id"],
    ] {
        let answer = house.answer(query.request(), GOOD, &house.top, more);
        assert!(
            query.judge(&answer, Moment::now(clock())).is_ok(),
            "{more:?}"
        );
    }
}

#[test]
fn an_answer_to_another_question_is_none() {
    let Some(house) = House::new() else { return };
    let now = Moment::now(clock());
    let (one, two) = (house.query(), house.query());
    let answer = house.answer(one.request(), GOOD, &house.top, &["-nmin", "60"]);
    assert!(one.judge(&answer, now).is_ok());
    assert_eq!(two.judge(&answer, now), Err(Error::Nonce));
    // Without a nonce only the certificate tells questions apart.
    let other = house.top.signer("Other", key(), &serial(18));
    let question = plain_question(&house, &house.top, &other);
    let answer = house.answer(
        &question,
        &[('V', 17), ('V', 18)],
        &house.top,
        &["-nmin", "60"],
    );
    assert_eq!(one.judge(&answer, now), Err(Error::OtherCertificate));
    // The same name and number, another issuer: OpenSSL does not know it.
    let stranger = root("Root", key(), AS_IS);
    let question = plain_question(&house, &stranger, &house.signer);
    let answer = house.answer(&question, GOOD, &house.top, &["-nmin", "60"]);
    assert_eq!(one.judge(&answer, now), Err(Error::OtherCertificate));
}

/// A question of OpenSSL's own: SHA-256, no nonce.
fn plain_question(house: &House, issuer: &Party, about: &Party) -> Vec<u8> {
    let folder = house.folder.path();
    std::fs::write(folder.join("about.pem"), about.made.pem()).expect("about");
    std::fs::write(folder.join("of.pem"), issuer.made.pem()).expect("of");
    let mut command = Command::new("openssl");
    command
        .args([
            "ocsp",
            "-sha256",
            "-no_nonce",
            "-issuer",
            "of.pem",
            "-cert",
            "about.pem",
        ])
        .args(["-reqout", "plain"])
        .current_dir(folder);
    support::run(&mut command).expect(0);
    std::fs::read(folder.join("plain")).expect("plain")
}

#[test]
fn an_answer_without_our_nonce_counts_while_it_is_current() {
    let Some(house) = House::new() else { return };
    let question = plain_question(&house, &house.top, &house.signer);
    let query = house.query();
    let now = clock();
    let dated = house.answer(&question, GOOD, &house.top, &["-nmin", "60"]);
    let open = house.answer(&question, GOOD, &house.top, &[]);
    let judge = |answer: &[u8], at, now| query.judge(answer, Moment { at, now });
    let hour = 3600;
    // The issuer is named by SHA-256 in these answers.
    let answer = judge(&dated, now, now).expect("an answer");
    assert!(!answer.nonce && answer.next_update.is_some());
    assert!(judge(&dated, now + hour / 2, now + hour / 2).is_ok());
    for (at, clock) in [
        (now + 2 * hour, now + 2 * hour),
        (now + 2 * hour, now),
        (now, now + 2 * hour),
    ] {
        assert_eq!(
            judge(&dated, at, clock),
            Err(Error::Unreliable),
            "out of date"
        );
    }
    // A day in the past may be asked about; nobody can answer for the future.
    assert!(judge(&dated, now - 300 * 86_400, now).is_ok());
    assert_eq!(
        judge(&dated, now - 2 * hour, now - 2 * hour),
        Err(Error::Unreliable),
        "future"
    );
    assert!(
        judge(&dated, now - 60, now - 60).is_ok(),
        "clocks differ a little"
    );
    // Without an end: now if it is fresh, and not a time to come; else a day.
    let fresh = house.answer(query.request(), GOOD, &house.top, &[]);
    assert!(judge(&fresh, now, now + 30 * hour).is_ok());
    assert_eq!(judge(&fresh, now + 30 * hour, now), Err(Error::Unreliable));
    assert!(judge(&open, now, now).is_ok());
    assert!(judge(&open, now + 23 * hour, now + 23 * hour).is_ok());
    assert_eq!(
        judge(&open, now + 25 * hour, now + 25 * hour),
        Err(Error::Unreliable)
    );
}

#[test]
fn damaged_answers_neither_panic_nor_convince() {
    let Some(house) = House::new() else { return };
    let query = house.query();
    let delegate = house.delegate(AS_IS);
    let now = Moment::now(clock());
    for by in [&house.top, &delegate] {
        let answer = house.answer(query.request(), GOOD, by, &["-nmin", "60"]);
        assert!(query.judge(&answer, now).is_ok());
        let mut accepted = Vec::new();
        for index in 0..answer.len() {
            for bit in [1u8, 0x20, 0x80] {
                let mut damaged = answer.clone();
                damaged[index] ^= bit;
                if query.judge(&damaged, now).is_ok() {
                    accepted.push(index);
                }
            }
            assert!(
                query.judge(&answer[..index], now).is_err(),
                "cut at {index}"
            );
        }
        // The certificate of the issuer itself comes along, and nobody needs it.
        let certificate = answer.len() - by.made.der().len();
        let needless = by.made.der() == house.top.made.der();
        assert!(
            accepted
                .iter()
                .all(|index| needless && *index >= certificate - 8),
            "{accepted:?} of {}",
            answer.len()
        );
    }
}

#[test]
fn refusals_of_a_responder_are_told() {
    let Some(house) = House::new() else { return };
    let query = house.query();
    let now = Moment::now(clock());
    for (code, text) in [
        (1, "malformed"),
        (2, "internal error"),
        (3, "try later"),
        (5, "signature required"),
        (6, "unauthorized"),
    ] {
        let answer = tlv(0x30, &tlv(0x0a, &[code]));
        let refusal = query.judge(&answer, now).expect_err(text);
        assert_eq!(
            refusal.to_string(),
            format!("OCSP response err: ocsp: error from server: {text}")
        );
    }
    // "Successful" without an answer, and a code that nobody knows.
    assert_eq!(
        query.judge(&tlv(0x30, &tlv(0x0a, &[0])), now),
        Err(Error::Type)
    );
    assert!(query.judge(&tlv(0x30, &tlv(0x0a, &[4])), now).is_err());
}

proptest! {
    #[test]
    fn answers_never_panic(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let top = TOP.with(|top| top.certificate());
        let query = Query::new(&top, &top).expect("a question");
        prop_assert!(query.judge(&data, Moment::now(0)).is_err());
    }
}

thread_local! {
    static TOP: Party = root("Root", key(), AS_IS);
}

/// A signed image, the certificates in files, and the command.
struct Desk {
    home: support::Home,
    top: Party,
    responder: Party,
}

impl Desk {
    fn new() -> Self {
        let top = root("Root", key(), AS_IS);
        let responder = top.signer("Responder", key(), &|p| {
            p.extended_key_usages = vec![Eku::OcspSigning];
            p.custom_extensions = vec![no_check()];
        });
        let home = support::Home::new();
        home.write("root.pem", top.made.pem().as_bytes());
        Self {
            home,
            top,
            responder,
        }
    }

    /// `verify --ocsp-verify` of an image signed by a new signer who names these responders.
    fn verify(&self, urls: &[&str], more: &[&str]) -> support::Outcome {
        let signer = self.top.signer("Signer", key(), &|p| {
            p.serial_number = Some(SerialNumber::from(17));
            if !urls.is_empty() {
                p.custom_extensions = vec![responders(urls)];
            }
        });
        self.verify_signer(&signer, more)
    }

    fn verify_signer(&self, signer: &Party, more: &[&str]) -> support::Outcome {
        let home = &self.home;
        home.write("signer.pem", signer.made.pem().as_bytes());
        home.write("signer.key", signer.issuer.key().serialize_pem().as_bytes());
        home.copy("native/unsigned.sif", "image.sif");
        support::run(&mut home.sigsif(["sign", "--key", "signer.key", "image.sif"])).expect(0);
        let mut command = home.sigsif(["verify", "--certificate", "signer.pem"]);
        command
            .args(["--certificate-roots", "root.pem", "--ocsp-verify"])
            .args(more);
        support::run(command.arg("image.sif"))
    }
}

const REFUSED: &str = "FATAL:   failed to verify container: OCSP verification has failed\n";

#[test]
fn a_real_responder_decides() {
    if support::tool("openssl").is_none() {
        return support::skip_without("openssl");
    }
    let desk = Desk::new();
    for by in [&desk.top, &desk.responder] {
        let good = OpenSsl::start(GOOD, &desk.top, by, &[]);
        let outcome = desk.verify(&[&good.url()], &[]).expect(0);
        assert_eq!(
            outcome.stderr,
            "INFO:    Verifying image with key material from certificate 'signer.pem'\n\
             INFO:    Validate: cert:Signer  issuer:Root\n\
             INFO:    skip self-signed certificate (CN=Root)\n\
             INFO:    Verified signature(s) from image 'image.sif'\n"
        );
        let report = desk.verify(&[&good.url()], &["--format", "json"]).expect(0);
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
        let certificate = &report["signatures"][0]["signer"]["keys"][0]["certificate"];
        let revocation = &certificate["path"][0]["revocation"];
        assert_eq!(revocation["source"], "ocsp");
        let delegate = by.certificate() != desk.top.certificate();
        let name = if delegate {
            "CN=Responder".into()
        } else {
            serde_json::Value::Null
        };
        assert_eq!(revocation["responder"], name);
        let revoked = OpenSsl::start(&[('R', 17)], &desk.top, by, &[]);
        desk.verify(&[&revoked.url()], &[])
            .expect(255)
            .says(REFUSED)
            .says(
                "WARNING: OCSP verification has failed. Err: certificate revoked at '2021-01-01 \
             00:00:00 +0000 UTC'. Revocation reason code: '1'\n",
            );
        // Not revoked yet, but nothing proves that the signature is older.
        desk.verify(&[&revoked.url()], &["--at", "2020-06-01T00:00:00Z"])
            .expect(255)
            .says(REFUSED);
        let unknown = OpenSsl::start(&[('V', 3)], &desk.top, by, &[]);
        desk.verify(&[&unknown.url()], &[])
            .expect(255)
            .says("Err: status unknown. certificate cannot be trusted\n")
            .says(REFUSED);
        // A responder that does not know it is no last word, one that is revoked there is.
        desk.verify(&[&unknown.url(), &good.url()], &[]).expect(0);
        desk.verify(&[&revoked.url(), &good.url()], &[])
            .expect(255)
            .says(REFUSED);
    }
    // The wrong key.
    let stranger = root("Root", key(), AS_IS);
    let wrong = OpenSsl::start(GOOD, &desk.top, &stranger, &[]);
    desk.verify(&[&wrong.url()], &[])
        .expect(255)
        .says("ocsp response is rejected")
        .says(REFUSED);
    // Twice the same three: by the environment, and not at all.
    let revoked = OpenSsl::start(&[('R', 17)], &desk.top, &desk.top, &[]);
    desk.verify(&[&revoked.url()], &["--ocsp-verify=false"])
        .expect(0);
    let mut command = desk.home.sigsif(["verify", "image.sif"]);
    command
        .env("SINGULARITY_VERIFY_CERTIFICATE", "signer.pem")
        .env("SINGULARITY_VERIFY_ROOTS", "root.pem");
    support::run(&mut command).expect(0);
    support::run(command.env("SINGULARITY_VERIFY_OCSP", "true"))
        .expect(255)
        .says(REFUSED);
    support::run(command.env("SINGULARITY_VERIFY_OCSP", "false")).expect(0);
    support::run(command.env("SINGULARITY_VERIFY_OCSP", "maybe"))
        .expect(255)
        .says(
            "unable to set flag ocsp-verify to value maybe: strconv.ParseBool: parsing \"maybe\": \
         invalid syntax",
        );
}

#[test]
fn every_certificate_of_a_path_is_asked_about() {
    if support::tool("openssl").is_none() {
        return support::skip_without("openssl");
    }
    let desk = Desk::new();
    let of_root = OpenSsl::start(&[('V', 16), ('R', 18)], &desk.top, &desk.top, &[]);
    let authority = |serial: u64, urls: &[&str]| {
        desk.top.ca("Intermediate", key(), &|p| {
            p.serial_number = Some(SerialNumber::from(serial));
            if !urls.is_empty() {
                p.custom_extensions = vec![responders(urls)];
            }
        })
    };
    let verify = |middle: &Party, more: &[&str]| {
        desk.home.write("between.pem", middle.made.pem().as_bytes());
        let of_middle = OpenSsl::start(GOOD, middle, middle, &[]);
        let signer = middle.signer("Signer", key(), &|p| {
            p.serial_number = Some(SerialNumber::from(17));
            p.custom_extensions = vec![responders(&[&of_middle.url()])];
        });
        let more = [&["--certificate-intermediates", "between.pem"], more].concat();
        desk.verify_signer(&signer, &more)
    };
    verify(&authority(16, &[&of_root.url()]), &[]).expect(0);
    verify(&authority(18, &[&of_root.url()]), &[])
        .expect(255)
        .says("certificate revoked at");
    // An authority that names no responder, as is usual: its issuer's list must tell.
    let silent = authority(19, &[]);
    verify(&silent, &[])
        .expect(255)
        .says("Err: OCSP Query err: certificate does not support OCSP");
    desk.home
        .write("good.crl", &desk.top.crl_der(&[3], &|_| {}));
    verify(&silent, &["--crl", "good.crl"]).expect(0);
    desk.home
        .write("bad.crl", &desk.top.crl_der(&[19], &|_| {}));
    verify(&silent, &["--crl", "bad.crl"]).expect(255).says(
        "FATAL:   failed to verify container: certificate revoked at '2021-01-01T00:00:00Z'. \
         Revocation reason code: '1': CN=Intermediate\n",
    );
}

#[test]
fn a_delegate_is_asked_about_unless_its_issuer_frees_it() {
    if support::tool("openssl").is_none() {
        return support::skip_without("openssl");
    }
    let desk = Desk::new();
    let delegate = |serial: u64, url: &str| {
        desk.top.signer("Delegate", key(), &|p| {
            p.extended_key_usages = vec![Eku::OcspSigning];
            p.serial_number = Some(SerialNumber::from(serial));
            p.custom_extensions = vec![responders(&[url])];
        })
    };
    let by_root = OpenSsl::start(&[('V', 30), ('R', 31)], &desk.top, &desk.top, &[]);
    let good = OpenSsl::start(GOOD, &desk.top, &delegate(30, &by_root.url()), &[]);
    desk.verify(&[&good.url()], &[]).expect(0);
    let revoked = OpenSsl::start(GOOD, &desk.top, &delegate(31, &by_root.url()), &[]);
    desk.verify(&[&revoked.url()], &[])
        .expect(255)
        .says("Err: certificate of the OCSP responder 'CN=Delegate': certificate revoked at");
    // Vouching for itself proves nothing. Its address is known before it runs.
    let target = Arc::new(Mutex::new(String::new()));
    let door = {
        let target = target.clone();
        Server::start(move |seen| Some(forward(&target.lock().expect("target"), seen)))
    };
    let own = delegate(32, &door.url());
    let circle = OpenSsl::start(&[('V', 17), ('V', 32)], &desk.top, &own, &[]);
    *target.lock().expect("target") = circle.url();
    desk.verify(&[&circle.url()], &[]).expect(255).says(
        "Err: certificate of the OCSP responder 'CN=Delegate': certificate of the OCSP responder \
         'CN=Delegate': only responders that need checking themselves vouch for it\n",
    );
    assert_eq!(door.connections(), 1);
    // A list may tell about it instead.
    desk.home
        .write("delegates.crl", &desk.top.crl_der(&[3], &|_| {}));
    desk.verify(&[&revoked.url()], &["--crl", "delegates.crl"])
        .expect(0);
    desk.home
        .write("delegates.crl", &desk.top.crl_der(&[30], &|_| {}));
    desk.verify(&[&good.url()], &["--crl", "delegates.crl"])
        .expect(255)
        .says(REFUSED);
}

/// Hands a request to another server.
fn forward(to: &str, seen: &Seen) -> Vec<u8> {
    let address = to.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!(
        "POST / HTTP/1.0\r\nContent-Type: application/ocsp-request\r\nContent-Length: {}\r\n\r\n",
        seen.body.len()
    );
    let request = [head.as_bytes(), &seen.body].concat();
    stream.write_all(&request).expect("write");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    answer
}

#[test]
fn a_responder_that_does_not_answer_as_it_must_is_a_refusal() {
    if support::tool("openssl").is_none() {
        return support::skip_without("openssl");
    }
    let desk = Desk::new();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let port = closed.trim_start_matches("http://");
    desk.verify(&[&closed], &[]).expect(255).says(REFUSED).says(&format!(
        "WARNING: OCSP verification has failed. Err: OCSP Query err: OCSP Send Request err: Post \
         \"{closed}\": dial tcp {port}: connect: connection refused\n"
    ));
    let good = OpenSsl::start(GOOD, &desk.top, &desk.top, &[]);
    // The next one is asked instead.
    desk.verify(&[&closed, &good.url()], &[]).expect(0);
    let says = |answer: &'static [u8], text: &str| {
        let server = Server::start(move |_| Some(answer.to_vec()));
        desk.verify(&[&server.url()], &[])
            .expect(255)
            .says(REFUSED)
            .says(text);
        assert_eq!(server.connections(), 1);
    };
    says(
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "404 Not Found\n",
    );
    says(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "OCSP response err: asn1: structure error",
    );
    says(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n0\x03\x0a\x01\x06",
        "error from server: unauthorized\n",
    );
    says(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "OCSP response err: asn1",
    );
    says(b"", "EOF");
    // Larger than any answer.
    let large = Server::start(|_| Some(http("200 OK", &[], &vec![b'0'; 1 << 20])));
    desk.verify(&[&large.url()], &[])
        .expect(255)
        .says("answer is larger than 131072 bytes\n");
    // Another kind of address, and none.
    for url in [
        "ldap://127.0.0.1/",
        "file:///etc/passwd",
        "",
        "http:",
        "//x",
    ] {
        desk.verify(&[url], &[])
            .expect(255)
            .says("is not http or https\n");
    }
    desk.verify(&[], &[])
        .expect(255)
        .says("Err: OCSP Query err: certificate does not support OCSP\n");
    // Redirects that keep the question are followed, but not in a circle.
    let target = good.url();
    let moved =
        Server::start(move |_| Some(http("307 Moved", &[&format!("Location: {target}")], b"")));
    desk.verify(&[&moved.url()], &[]).expect(0);
    let round = Server::start(|_| Some(http("307 Moved", &["Location: /"], b"")));
    desk.verify(&[&round.url()], &[]).expect(255).says(REFUSED);
    assert!(round.connections() <= 2);
    // What a certificate has in its addresses is no credential.
    let target = good.url();
    let door = Server::start(move |seen| Some(forward(&target, seen)));
    let named = door.url().replace("http://", "http://user:secret@");
    desk.verify(&[&named], &[]).expect(0);
    let seen = door.seen.lock().expect("seen").clone();
    assert!(
        !seen[0].head.to_lowercase().contains("authorization"),
        "{}",
        seen[0].head
    );
    assert!(seen[0].head.contains("application/ocsp-request"));
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("POST", "/")
    );
}

#[test]
fn a_responder_that_takes_no_post_is_asked_by_get() {
    if support::tool("openssl").is_none() {
        return support::skip_without("openssl");
    }
    let desk = Desk::new();
    let good = OpenSsl::start(GOOD, &desk.top, &desk.top, &[]);
    let target = good.url();
    let door = Server::start(move |seen| {
        if seen.method == "POST" {
            return Some(http("405 Method Not Allowed", &[], b""));
        }
        let path = seen.path.strip_prefix("/ca/").expect("a path");
        let decode = |text: &str| {
            text.replace("%2B", "+")
                .replace("%2F", "/")
                .replace("%3D", "=")
        };
        let body = BASE64_STANDARD.decode(decode(path)).expect("base64");
        Some(forward(
            &target,
            &Seen {
                body,
                ..seen.clone()
            },
        ))
    });
    desk.verify(&[&format!("{}/ca/", door.url())], &[])
        .expect(0);
    assert_eq!(door.connections(), 2);
}

/// Idle for as long as the program waits.
#[test]
fn a_responder_that_hangs_is_given_up() {
    if support::tool("openssl").is_none() {
        return support::skip_without("openssl");
    }
    let desk = Desk::new();
    let silent = Server::start(|_| None);
    let begin = Instant::now();
    desk.verify(&[&silent.url()], &[])
        .expect(255)
        .says("context deadline exceeded (Client.Timeout exceeded while awaiting headers)\n")
        .says(REFUSED);
    let waited = begin.elapsed();
    assert!(
        waited > Duration::from_secs(9) && waited < Duration::from_secs(30),
        "{waited:?}"
    );
}
