//! Compares answers with records, and the list of differences with both.

use super::common::called::Called;
use super::common::program::Answer;
use super::differences::{self, Difference};
use super::record::Record;
use super::wording;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Mismatches that are printed.
const PRINTED: usize = 20;

/// Collects what a test finds out; fails at the end with all of it.
pub struct Judge {
    test: &'static str,
    called: Called,
    applied: Vec<AtomicUsize>,
    compared: AtomicUsize,
    faults: Mutex<Vec<String>>,
}

impl Judge {
    /// A judge for the differences listed under the name of a test.
    pub fn new(test: &'static str) -> Self {
        Self::of(test, Called::Sigsif)
    }

    /// The same for another name of the program.
    pub fn of(test: &'static str, called: Called) -> Self {
        Self {
            test,
            called,
            applied: differences::ALL
                .iter()
                .map(|_| AtomicUsize::new(0))
                .collect(),
            compared: AtomicUsize::new(0),
            faults: Mutex::new(Vec::new()),
        }
    }

    /// The record as this program is to be called, with lines that a listed
    /// difference wants typed in addition.
    pub fn prepared(&self, record: &Record) -> Record {
        let mut record = record.clone();
        for (_, difference) in self.listed(&record.clone()) {
            difference.prepare(&mut record);
        }
        record
    }

    /// Compares an answer with a record; `mask` hides what varies.
    pub fn compare(&self, record: &Record, answer: &Answer, mask: impl Fn(&str) -> String) {
        self.compared.fetch_add(1, Ordering::Relaxed);
        let listed: Vec<_> = self.listed(record).collect();
        for (index, _) in &listed {
            self.applied[*index].fetch_add(1, Ordering::Relaxed);
        }
        let found = match wording::found(answer, record, self.called) {
            Ok(found) => masked(found, &mask),
            Err(fault) => return self.fault(record, &fault),
        };
        let recorded = wording::expected(record, self.called);
        let wanted = |left_out: Option<usize>| {
            let mut wanted = recorded.clone();
            for (index, difference) in &listed {
                if left_out != Some(*index) {
                    difference.apply(&mut wanted, record)?;
                }
            }
            // The list has our own name, and commands in advice are quoted.
            let quoted = format!("'{} ", self.called.name());
            wanted.stderr = wanted.stderr.replace("'sigsif ", &quoted);
            if self.called == Called::Apptainer {
                // The list has SingularityCE's capitals.
                let capital = "FATAL:   Failed to ";
                wanted.stderr = wanted.stderr.replace("FATAL:   failed to ", capital);
            }
            Ok::<_, String>(masked(wanted, &mask))
        };
        let all = match wanted(None) {
            Ok(all) => all,
            Err(fault) => return self.fault(record, &fault),
        };
        if found == all {
            return;
        }
        for (index, difference) in &listed {
            if wanted(Some(*index)).is_ok_and(|without| without == found) {
                self.fault(
                    record,
                    &format!("HEALED, strike it from the list: {difference}"),
                );
                return;
            }
        }
        self.fault(record, &describe(&all, &found));
    }

    /// Notes a fault of a record.
    pub fn fault(&self, record: &Record, text: &str) {
        self.note(format!("{}: {:?}\n{text}", record.name, record.argv));
    }

    /// Notes any fault.
    pub fn note(&self, text: String) {
        self.faults.lock().expect("faults").push(text);
    }

    /// How many records were compared.
    pub fn compared(&self) -> usize {
        self.compared.load(Ordering::Relaxed)
    }

    /// Fails if anything was noted or a listed difference met no record.
    pub fn finish(self) {
        for (difference, applied) in differences::ALL.iter().zip(&self.applied) {
            if difference.tests.contains(&self.test) && applied.load(Ordering::Relaxed) == 0 {
                self.note(format!(
                    "listed difference met no record: {}",
                    difference.what
                ));
            }
        }
        let compared = self.compared();
        let mut faults = self.faults.into_inner().expect("faults");
        faults.sort();
        if !faults.is_empty() {
            let shown: Vec<_> = faults.iter().take(PRINTED).cloned().collect();
            panic!(
                "{} of {compared} records of '{}' differ; the first {}:\n\n{}\n",
                faults.len(),
                self.test,
                shown.len(),
                shown.join("\n\n")
            );
        }
        println!("{}: {compared} records answered as recorded", self.test);
    }

    fn listed(&self, record: &Record) -> impl Iterator<Item = (usize, &'static Difference)> {
        differences::ALL
            .iter()
            .enumerate()
            .filter(|(_, difference)| {
                difference.tests.contains(&self.test) && (difference.record)(record)
            })
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// Works on all items with all cores.
pub fn on_all_cores<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

fn masked(mut answer: Answer, mask: &impl Fn(&str) -> String) -> Answer {
    if let Ok(text) = std::str::from_utf8(&answer.stdout) {
        answer.stdout = mask(text).into_bytes();
    }
    answer.stderr = mask(&answer.stderr);
    answer
}

fn describe(wanted: &Answer, found: &Answer) -> String {
    let mut out = Vec::new();
    if wanted.exit != found.exit {
        out.push(format!("  exit code: {}, not {}", found.exit, wanted.exit));
    }
    let mut stream = |name: &str, wanted: &[u8], found: &[u8]| {
        if wanted != found {
            out.push(format!(
                "  {name} wanted: {}\n  {name} found:  {}",
                wanted.escape_ascii(),
                found.escape_ascii()
            ));
        }
    };
    stream("stdout", &wanted.stdout, &found.stdout);
    stream("stderr", wanted.stderr.as_bytes(), found.stderr.as_bytes());
    if wanted.echo != found.echo {
        out.push(format!("  echo: {:?}, not {:?}", found.echo, wanted.echo));
    }
    out.join("\n")
}
