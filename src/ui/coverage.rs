//! Renders who answers for which byte: text, JSON, and the bar of `sif list --coverage`.

use super::one_line;
use crate::coverage::{Coverage, Piece, State, What};
use crate::sif::layout::Gap;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io;
use std::ops::Range;

/// What `verify --strict` prints below the signatures.
pub fn text(coverage: &Coverage) -> String {
    let [signed, fixed, free, uncovered] = coverage.totals();
    let total: usize = coverage.pieces.iter().map(|piece| piece.range.len()).sum();
    let mut out = format!(
        "Coverage: {total} bytes, {signed} signed, {fixed} fixed by the format, {free} free, \
         {uncovered} not covered\n"
    );
    let uncovered: Vec<_> = coverage.uncovered().collect();
    if !uncovered.is_empty() {
        out.push_str("Not covered:\n");
        for (piece, problem) in uncovered {
            let _ = writeln!(out, "  {}: {problem}", place(piece));
        }
    }
    let free: Vec<_> = coverage.free().collect();
    if !free.is_empty() || !coverage.twins.is_empty() {
        out.push_str("Free:\n");
        for (piece, freedom) in free {
            let _ = writeln!(out, "  {}: {freedom}", place(piece));
        }
        for object in &coverage.twins {
            let _ = writeln!(
                out,
                "  signature of object {object}: a second value, (r, n - s), verifies as well"
            );
        }
    }
    out
}

/// `bytes 64-72 (8), header, creation time`
fn place(piece: &Piece) -> String {
    let Range { start, end } = &piece.range;
    let len = piece.range.len();
    format!("bytes {start}-{end} ({len}), {}", what(&piece.what))
}

fn what(what: &What) -> String {
    match what {
        What::Header(field) => format!("header, {field}"),
        What::Descriptor {
            object,
            field: Some(field),
        } => format!("descriptor of object {object}, {field}"),
        What::Descriptor {
            object,
            field: None,
        } => format!("descriptor of object {object}"),
        What::FreeSlots => "free descriptors".to_owned(),
        What::Data(object) => format!("data of object {object}"),
        What::Gap(gap) => gap_text(*gap).to_owned(),
    }
}

fn gap_text(gap: Gap) -> &'static str {
    match gap {
        Gap::AfterHeader => "space behind the header",
        Gap::AfterTable => "space behind the descriptor table",
        Gap::BetweenObjects => "space between objects",
        Gap::Tail => "behind the last object",
    }
}

/// The `coverage` member of the full report.
#[derive(Serialize)]
pub(super) struct Json {
    verdict: &'static str,
    bytes: JsonBytes,
    ranges: Vec<JsonRange>,
    twins: Vec<u32>,
}

#[derive(Serialize)]
struct JsonBytes {
    signed: usize,
    fixed: usize,
    free: usize,
    uncovered: usize,
}

#[derive(Serialize)]
struct JsonRange {
    start: usize,
    end: usize,
    part: &'static str,
    object: Option<u32>,
    field: Option<&'static str>,
    state: &'static str,
    signatures: Vec<u32>,
    reason: Option<String>,
}

/// Makes the `coverage` member of the full report.
pub(super) fn json(coverage: &Coverage) -> Json {
    let [signed, fixed, free, uncovered] = coverage.totals();
    Json {
        verdict: match coverage.is_complete() {
            true => "complete",
            false => "incomplete",
        },
        bytes: JsonBytes {
            signed,
            fixed,
            free,
            uncovered,
        },
        ranges: coverage.pieces.iter().map(json_range).collect(),
        twins: coverage.twins.clone(),
    }
}

fn json_range(piece: &Piece) -> JsonRange {
    let (part, object, field) = match &piece.what {
        What::Header(field) => ("header", None, Some(*field)),
        What::Descriptor { object, field } => ("descriptor", Some(*object), *field),
        What::FreeSlots => ("freeDescriptors", None, None),
        What::Data(object) => ("data", Some(*object), None),
        What::Gap(Gap::Tail) => ("tail", None, None),
        What::Gap(_) => ("gap", None, None),
    };
    let (state, signatures, reason) = match &piece.state {
        State::Signed(by) => ("signed", by.iter().copied().collect(), None),
        State::Fixed => ("fixed", Vec::new(), None),
        State::Free(freedom) => ("free", Vec::new(), Some(freedom.to_string())),
        State::Uncovered(problem) => ("uncovered", Vec::new(), Some(problem.to_string())),
    };
    JsonRange {
        start: piece.range.start,
        end: piece.range.end,
        part,
        object,
        field,
        state,
        signatures,
        reason,
    }
}

/// What is known about a signature object that the bar shows.
pub struct Claimant {
    /// Id of the signature object.
    pub object: u32,
    /// Whether what it says counts.
    pub standing: Standing,
    /// Who, or why it does not count.
    pub text: String,
}

/// Whether what a signature says counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was verified.
    Verified,
    /// It says so, and there is no key to verify it with.
    Claimed,
    /// It does not hold, or says nothing.
    Refused,
}

impl Standing {
    fn text(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Claimed => "claimed",
            Self::Refused => "refused",
        }
    }
}

/// Draws a file as a bar of at most `width` columns, with its parts and a legend below.
pub fn bar(coverage: &Coverage, claimants: &[Claimant], width: usize, color: bool) -> String {
    let units = units(coverage);
    let verified = claimants
        .iter()
        .filter(|c| c.standing == Standing::Verified)
        .map(|c| c.object);
    let verified: BTreeSet<u32> = verified.collect();
    let mut marks = Marks::default();
    let drawn: Vec<_> = units
        .iter()
        .map(|unit| (unit.range.clone(), marks.of(unit, &verified)))
        .collect();
    let mut out = String::new();
    if !super::is_plain() {
        out.push('[');
        for mark in cells(&drawn, width.saturating_sub(2).max(8)) {
            out.push_str(&painted(mark, color));
        }
        out.push_str("]\n");
    }
    rows(&units, &drawn, color, &mut out);
    out.push_str(&marks.legend(claimants, &drawn, color));
    out
}

/// Columns of the terminal on stdout; 80 where there is none.
pub fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let columns = size.map(|size| usize::from(size.ws_col));
    columns.filter(|columns| *columns > 0).unwrap_or(80)
}

/// A part of the file that is drawn as one.
struct Unit {
    range: Range<usize>,
    what: String,
    /// The signatures over it, if it is signed at all.
    by: BTreeSet<u32>,
    /// Whether it belongs to a signature object.
    signature: bool,
    /// What nobody answers for in it.
    problem: Option<String>,
}

fn units(coverage: &Coverage) -> Vec<Unit> {
    let seals = seals(coverage);
    let mut units: Vec<Unit> = Vec::new();
    for piece in &coverage.pieces {
        let what = match &piece.what {
            What::Header(_) => "header".to_owned(),
            What::Descriptor { object, .. } => format!("descriptor of object {object}"),
            other => what(other),
        };
        let mut unit = Unit {
            range: piece.range.clone(),
            what,
            by: BTreeSet::new(),
            signature: match piece.what {
                What::Descriptor { object, .. } | What::Data(object) => seals.contains(&object),
                _ => false,
            },
            problem: None,
        };
        match &piece.state {
            State::Signed(by) => unit.by = by.clone(),
            State::Uncovered(problem) => {
                unit.problem = Some(match &piece.what {
                    What::Header(field)
                    | What::Descriptor {
                        field: Some(field), ..
                    } => format!("{field}: {problem}"),
                    _ => problem.to_string(),
                });
            }
            State::Fixed | State::Free(_) => {}
        }
        // Fields are drawn as one; sound and unsound parts of a gap are not.
        let has_fields = matches!(piece.what, What::Header(_) | What::Descriptor { .. });
        match units.last_mut() {
            Some(last) if has_fields && last.what == unit.what => {
                last.range.end = unit.range.end;
                last.by.append(&mut unit.by);
                last.problem = last.problem.take().or(unit.problem);
            }
            _ => units.push(unit),
        }
    }
    units
}

/// Objects whose data the format fixes: signatures.
fn seals(coverage: &Coverage) -> BTreeSet<u32> {
    let fixed = coverage.pieces.iter().filter(|p| p.state == State::Fixed);
    fixed
        .filter_map(|piece| match piece.what {
            What::Data(object) => Some(object),
            _ => None,
        })
        .collect()
}

/// One character of the bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// Nobody answers.
    Nobody,
    /// Signed; verified or only claimed, by the set of this letter.
    Signed { letter: char, verified: bool },
    /// A signature itself.
    Signature,
    /// Fixed by the format.
    Fixed,
}

impl Mark {
    fn char(self) -> char {
        match self {
            Self::Nobody => '!',
            Self::Signed {
                letter,
                verified: true,
            } => letter,
            Self::Signed { letter, .. } => letter.to_ascii_lowercase(),
            Self::Signature => '=',
            Self::Fixed => '.',
        }
    }

    /// The one that is seen where several fall on one column.
    fn weight(self) -> u8 {
        match self {
            Self::Nobody => 3,
            Self::Signed { .. } => 2,
            Self::Signature => 1,
            Self::Fixed => 0,
        }
    }
}

/// Letters for sets of signatures, in the order in which they occur.
#[derive(Default)]
struct Marks {
    sets: Vec<BTreeSet<u32>>,
    places: HashMap<BTreeSet<u32>, usize>,
}

impl Marks {
    fn of(&mut self, unit: &Unit, verified: &BTreeSet<u32>) -> Mark {
        if unit.problem.is_some() {
            return Mark::Nobody;
        }
        if unit.by.is_empty() {
            return match unit.signature {
                true => Mark::Signature,
                false => Mark::Fixed,
            };
        }
        let index = self.places.get(&unit.by).copied().unwrap_or_else(|| {
            let index = self.sets.len();
            self.sets.push(unit.by.clone());
            self.places.insert(unit.by.clone(), index);
            index
        });
        Mark::Signed {
            letter: letter(index),
            verified: unit.by.iter().any(|id| verified.contains(id)),
        }
    }

    fn legend(
        &self,
        claimants: &[Claimant],
        drawn: &[(Range<usize>, Mark)],
        color: bool,
    ) -> String {
        let mut out = String::from("\n");
        let find = |wanted: &dyn Fn(Mark) -> bool| {
            let mut marks = drawn.iter().map(|(_, mark)| *mark);
            marks.find(|mark| wanted(*mark))
        };
        let mut line = |mark: Option<Mark>, text: &str| {
            if let Some(mark) = mark {
                let _ = writeln!(out, "{}  {text}", painted(mark, color));
            }
        };
        let mut signed = HashMap::new();
        for (_, mark) in drawn {
            if let Mark::Signed { letter, .. } = mark {
                signed.entry(*letter).or_insert(*mark);
            }
        }
        for (index, set) in self.sets.iter().enumerate() {
            let this = signed.get(&letter(index)).copied();
            let ids: Vec<_> = set.iter().map(ToString::to_string).collect();
            line(this, &format!("signed by {}", ids.join(" and ")));
        }
        line(find(&|mark| mark == Mark::Signature), "signatures");
        line(find(&|mark| mark == Mark::Fixed), "fixed by the format");
        line(find(&|mark| mark == Mark::Nobody), "covered by nobody");
        if claimants.is_empty() {
            out.push_str("\nNo signatures\n");
            return out;
        }
        out.push_str("\nSignatures:\n");
        let id = |claimant: &Claimant| claimant.object.to_string();
        let longest = claimants.iter().map(|c| id(c).len()).max();
        let width = longest.unwrap_or_default();
        for claimant in claimants {
            let standing = claimant.standing.text();
            let text = one_line(&claimant.text);
            let _ = writeln!(out, "{:<width$}  {standing:<8}  {text}", id(claimant));
        }
        out
    }
}

fn letter(index: usize) -> char {
    ('A'..='Z').nth(index).unwrap_or('+')
}

fn painted(mark: Mark, color: bool) -> String {
    let code = match mark {
        Mark::Nobody => 31,
        Mark::Signed { verified: true, .. } => 32,
        Mark::Signed { .. } => 33,
        Mark::Signature | Mark::Fixed => 0,
    };
    match (color, code) {
        (false, _) | (_, 0) => mark.char().to_string(),
        (true, code) => format!("\x1b[{code}m{}\x1b[0m", mark.char()),
    }
}

/// Shares columns among units by size, at least one for each run of one mark.
fn cells(drawn: &[(Range<usize>, Mark)], width: usize) -> Vec<Mark> {
    let mut runs: Vec<(usize, Mark)> = Vec::new();
    for (range, mark) in drawn {
        match runs.last_mut() {
            Some((len, last)) if last == mark => *len = len.saturating_add(range.len()),
            _ => runs.push((range.len(), *mark)),
        }
    }
    let total: usize = runs.iter().map(|(len, _)| *len).sum();
    if runs.len() > width {
        return crowded(drawn, total, width);
    }
    let spare = width.saturating_sub(runs.len());
    // Twice the width, halved, rounds to the nearest.
    let share = |bytes| scaled(bytes, spare.saturating_mul(2), total).div_ceil(2);
    let mut seen = 0_usize;
    let mut cells = Vec::with_capacity(width);
    for (len, mark) in runs {
        let before = share(seen);
        seen = seen.saturating_add(len);
        let columns = share(seen).saturating_sub(before).saturating_add(1);
        cells.extend(std::iter::repeat_n(mark, columns));
    }
    cells
}

/// More runs than columns: each column shows the heaviest mark that falls on it.
fn crowded(drawn: &[(Range<usize>, Mark)], total: usize, width: usize) -> Vec<Mark> {
    let mut cells = vec![Mark::Fixed; width];
    for (range, mark) in drawn {
        let first = scaled(range.start, width, total);
        let last = scaled(range.end.saturating_sub(1), width, total);
        for cell in cells.iter_mut().take(last.saturating_add(1)).skip(first) {
            if mark.weight() > cell.weight() {
                *cell = *mark;
            }
        }
    }
    cells
}

/// `part * width / total` in numbers that do not overflow.
fn scaled(part: usize, width: usize, total: usize) -> usize {
    let wide = |n: usize| u128::try_from(n).unwrap_or(u128::MAX);
    let product = wide(part).saturating_mul(wide(width));
    let quotient = product.checked_div(wide(total)).unwrap_or_default();
    usize::try_from(quotient).unwrap_or(usize::MAX)
}

fn rows(units: &[Unit], drawn: &[(Range<usize>, Mark)], color: bool, out: &mut String) {
    let position = |range: &Range<usize>| format!("{}-{}", range.start, range.end);
    let longest = units.iter().map(|unit| position(&unit.range).len()).max();
    let width = longest.unwrap_or_default();
    for (unit, (_, mark)) in units.iter().zip(drawn) {
        let problem = unit.problem.as_deref();
        let problem = problem.map_or_else(String::new, |p| format!(" ({p})"));
        let _ = writeln!(
            out,
            "{}  {:<width$}  {}{problem}",
            painted(*mark, color),
            position(&unit.range),
            unit.what
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(letter: char) -> Mark {
        Mark::Signed {
            letter,
            verified: true,
        }
    }

    fn text(drawn: &[(Range<usize>, Mark)], width: usize) -> String {
        cells(drawn, width).into_iter().map(Mark::char).collect()
    }

    #[test]
    fn every_part_has_a_column_and_the_rest_is_shared_by_size() {
        let drawn = [
            (0..10, mark('A')),
            (10..20, Mark::Fixed),
            (20..1000, mark('B')),
            (1000..1001, Mark::Nobody),
        ];
        assert_eq!(text(&drawn, 14), "A.BBBBBBBBBBB!");
        assert_eq!(text(&drawn, 4), "A.B!");
        assert_eq!(text(&[], 4), "");
    }

    #[test]
    fn what_nobody_covers_is_seen_even_when_columns_are_few() {
        let drawn: Vec<_> = (0..100)
            .map(|at| {
                let mark = if at == 57 {
                    Mark::Nobody
                } else {
                    mark(['A', 'B'][at % 2])
                };
                (at..at + 1, mark)
            })
            .collect();
        assert_eq!(text(&drawn, 10), "AAAAA!AAAA");
    }

    #[test]
    fn columns_of_huge_files_do_not_overflow() {
        let half = usize::MAX / 2;
        let drawn = [(0..half, mark('A')), (half..usize::MAX, Mark::Nobody)];
        assert_eq!(text(&drawn, 10), "AAAAA!!!!!");
    }
}
