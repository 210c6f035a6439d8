//! Writes the page.

use super::super::line::Verdict;
use super::Page;
use super::row::{Age, Row};
use crate::digest::HashAlgorithm;
use crate::ui::text::{readable, utc};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// How many signers the chart shows.
const CHART_SIGNERS: usize = 8;

/// Columns of the table: their class and head.
const COLUMNS: [(&str, &str); 6] = [
    ("verdict", "Verdict"),
    ("path", "Image"),
    ("signers", "Signed by"),
    ("signed", "Signed on"),
    ("size", "Size"),
    ("covered", "Covered"),
];

/// Writes the whole document.
pub(super) fn page(page: &Page, out: &mut dyn Write) -> io::Result<()> {
    let made = utc(page.made_at).replace(" +0000", "");
    let count = page.rows.len();
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>Signatures of {}, {}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        policy_digest(STYLE),
        policy_digest(SCRIPT),
        counted(count, "image"),
        html(&made),
    )?;
    out.write_all(head(page, &made).as_bytes())?;
    out.write_all(b"<section class=\"charts\" aria-label=\"Charts\">\n")?;
    out.write_all(verdict_chart(page).as_bytes())?;
    out.write_all(signer_chart(page).as_bytes())?;
    out.write_all(age_chart(page).as_bytes())?;
    out.write_all(b"</section>\n")?;
    table(page, out)?;
    out.write_all(b"</main>\n<script type=\"application/json\" id=\"data\">")?;
    data(page, out)?;
    write!(
        out,
        "</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// What a policy says for a text that it admits.
fn policy_digest(text: &str) -> String {
    let digest = HashAlgorithm::Sha256.digest(text.as_bytes());
    STANDARD.encode(digest.bytes())
}

/// Title and totals.
fn head(page: &Page, made: &str) -> String {
    let [mut verified, mut refused, mut errors] = [0_usize; 3];
    for row in &page.rows {
        *match row.verdict {
            Verdict::Verified => &mut verified,
            Verdict::Error => &mut errors,
            _ => &mut refused,
        } += 1;
    }
    let bytes = page.rows.iter().filter_map(|row| row.size);
    let bytes = bytes.fold(0_u64, u64::saturating_add);
    let sizes = match page.rows.iter().any(|row| row.size.is_some()) {
        true => format!("{} in files", size(bytes)),
        false => String::new(),
    };
    let all = page.rows.len();
    let tile = |class: &str, name: &str, number: usize, more: &str| {
        format!(
            "<div class=\"tile {class}\"><dt>{name}</dt><dd><b>{}</b> <span>{more}</span></dd></div>\n",
            grouped(number as u64)
        )
    };
    format!(
        "<a class=\"skip\" href=\"#images\">To the table</a>\n\
         <header>\n<div><h1>Signatures of {}</h1>\n\
         <p>Made {} by sigsif {}</p></div>\n\
         <button type=\"button\" id=\"theme\" hidden>Dark</button>\n</header>\n<main>\n\
         <dl class=\"tiles\" aria-label=\"Totals\">\n{}{}{}{}</dl>\n",
        counted(all, "image"),
        html(made),
        env!("CARGO_PKG_VERSION"),
        tile("all", "Images", all, &sizes),
        tile("ok", "Verified", verified, &share(verified, all)),
        tile("bad", "Refused", refused, &share(refused, all)),
        tile("error", "Could not be judged", errors, &share(errors, all)),
    )
}

fn verdict_chart(page: &Page) -> String {
    let all = page.rows.len();
    let counts = Verdict::ALL.map(|v| page.rows.iter().filter(|row| row.verdict == v).count());
    // The arcs need not be exact; one image in a million must still be seen.
    let shown: Vec<f64> = counts
        .iter()
        .map(|count| match (*count, all) {
            (0, _) | (_, 0) => 0.0,
            (count, all) => (count as f64 / all as f64 * 100.0).max(0.8),
        })
        .collect();
    let sum = shown.iter().sum::<f64>().max(1.0);
    let mut arcs = String::new();
    let mut items = String::new();
    let mut start = 25.0;
    // The good ones first, clockwise from the top, as people count.
    for (verdict, count) in Verdict::ALL.into_iter().zip(counts).rev() {
        let length = shown.get(verdict as usize).copied().unwrap_or_default() / sum * 100.0;
        let class = class(verdict);
        if length > 0.0 {
            let _ = write!(
                arcs,
                "<circle class=\"arc {class}\" cx=\"21\" cy=\"21\" r=\"15.9155\" \
                 stroke-dasharray=\"{length:.3} {:.3}\" stroke-dashoffset=\"{start:.3}\"/>",
                100.0 - length
            );
        }
        start -= length;
        let _ = writeln!(
            items,
            "<li><button type=\"button\" disabled data-verdict=\"{}\">\
             <span class=\"mark {class}\" aria-hidden=\"true\">{}</span> <span>{}</span> \
             <b>{}</b></button></li>",
            verdict as usize,
            mark(verdict),
            name(verdict),
            grouped(count as u64)
        );
    }
    let verified = counts.last().copied().unwrap_or_default();
    format!(
        "<figure><figcaption><h2>Verdict</h2></figcaption>\n<div class=\"donut\">\
         <svg viewBox=\"0 0 42 42\" aria-hidden=\"true\">\
         <circle class=\"track\" cx=\"21\" cy=\"21\" r=\"15.9155\"/>{arcs}\
         <text x=\"21\" y=\"21.5\">{}</text><text class=\"small\" x=\"21\" y=\"26\">verified</text></svg>\n\
         <ul>\n{items}</ul></div></figure>\n",
        match all {
            0 => "–".to_owned(),
            _ => percent(verified, all),
        }
    )
}

fn signer_chart(page: &Page) -> String {
    let mut counts = vec![[0_usize; 2]; page.signers.all.len()];
    for row in &page.rows {
        for signer in &row.accepted {
            if let Some([good, rest]) = counts.get_mut(*signer) {
                *match row.verdict {
                    Verdict::Verified => good,
                    _ => rest,
                } += 1;
            }
        }
    }
    let mut order: Vec<_> = counts.iter().enumerate().collect();
    order.retain(|(_, [good, rest])| good + rest > 0);
    order.sort_by_key(|(number, [good, rest])| (std::cmp::Reverse(good + rest), *number));
    let most = order.first().map_or(1, |(_, [good, rest])| good + rest);
    let mut items = String::new();
    for (number, count) in order.iter().take(CHART_SIGNERS) {
        if let Some(signer) = page.signers.all.get(*number) {
            let label = format!(
                "<bdi>{}</bdi> <small>{}</small>",
                html(&signer.name),
                html(&short(&signer.id))
            );
            items += &bar(&format!("data-signer=\"{number}\""), &label, **count, most);
        }
    }
    let more = order.len().saturating_sub(CHART_SIGNERS);
    let mut note = String::new();
    if more > 0 {
        note = format!("<p class=\"note\">and {}</p>", counted(more, "more signer"));
    }
    if order.is_empty() {
        note = "<p class=\"note\">No signature was accepted.</p>".to_owned();
    }
    let what = "Images with a signature that counts, by key or certificate";
    figure(
        "Signers",
        what,
        &format!("<ul class=\"bars signers\">\n{items}</ul>{note}"),
    )
}

fn age_chart(page: &Page) -> String {
    let mut counts = Age::ALL.map(|_| [0_usize; 2]);
    for row in &page.rows {
        if let Some([good, rest]) = counts.get_mut(row.age as usize) {
            *match row.verdict {
                Verdict::Verified => good,
                _ => rest,
            } += 1;
        }
    }
    let most = counts
        .iter()
        .map(|[good, rest]| good + rest)
        .max()
        .unwrap_or(1);
    let mut items = String::new();
    for (age, count) in Age::ALL.into_iter().zip(counts) {
        let always = matches!(
            age,
            Age::Month | Age::Quarter | Age::Year | Age::TwoYears | Age::FiveYears | Age::Older
        );
        if always || count != [0, 0] {
            let number = age as usize;
            items += &bar(
                &format!("data-age=\"{number}\""),
                age_name(age),
                count,
                most,
            );
        }
    }
    let what = "Images by their newest signature that counts, by its own account";
    figure(
        "Age of signature",
        what,
        &format!("<ul class=\"bars\">\n{items}</ul>"),
    )
}

fn figure(title: &str, what: &str, content: &str) -> String {
    format!(
        "<figure><figcaption><h2>{title}</h2><p>{what}: <span class=\"key ok\">verified</span>, \
         <span class=\"key rest\">not</span></p></figcaption>\n{content}</figure>\n"
    )
}

/// A bar of two parts: verified images and others.
fn bar(data: &str, label: &str, [good, rest]: [usize; 2], most: usize) -> String {
    let width = |count: usize| match count {
        0 => 0.0,
        count => (count as f64 / most.max(1) as f64 * 100.0).max(0.5),
    };
    format!(
        "<li><button type=\"button\" disabled {data}><span class=\"label\">{label}</span> \
         <svg aria-hidden=\"true\"><rect class=\"ok\" width=\"{:.2}%\" height=\"100%\"/>\
         <rect class=\"rest\" x=\"{:.2}%\" width=\"{:.2}%\" height=\"100%\"/></svg> \
         <b>{}</b><span class=\"hide\"> images, {} of them verified</span></button></li>\n",
        width(good),
        width(good),
        width(rest),
        grouped((good + rest) as u64),
        grouped(good as u64)
    )
}

/// The tools and the head of the table for the script, and the whole table without one.
fn table(page: &Page, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(
        b"<section id=\"images\" tabindex=\"-1\" aria-labelledby=\"images-title\">\n\
          <h2 id=\"images-title\">Images</h2>\n\
          <div id=\"app\" hidden>\n<div class=\"tools\" role=\"search\">\n\
          <label>Search <input type=\"search\" id=\"search\" autocomplete=\"off\" spellcheck=\"false\" \
          placeholder=\"path, signer, key or reason\"></label>\n\
          <label>Verdict <select id=\"verdict\"><option value=\"\">all</option>",
    )?;
    for verdict in Verdict::ALL.into_iter().rev() {
        write!(
            out,
            "<option value=\"{}\">{}</option>",
            verdict as usize,
            name(verdict)
        )?;
    }
    out.write_all(
        b"</select></label>\n<label>Signer <select id=\"signer\"><option value=\"\">all</option>\
          </select></label>\n<label>Age <select id=\"age\"><option value=\"\">all</option>",
    )?;
    for age in Age::ALL {
        write!(
            out,
            "<option value=\"{}\">{}</option>",
            age as usize,
            age_name(age)
        )?;
    }
    out.write_all(b"</select></label>\n<label class=\"sorter\">Sort <select id=\"sort\">")?;
    for (class, head) in COLUMNS {
        write!(
            out,
            "<option value=\"{class} up\">{head} ↑</option><option value=\"{class} down\">{head} ↓</option>"
        )?;
    }
    out.write_all(
        b"</select></label>\n<button type=\"button\" id=\"clear\">Clear</button>\n</div>\n\
          <p id=\"status\" role=\"status\"></p>\n\
          <div class=\"scroll\"><table id=\"table\">\n\
          <caption class=\"hide\">Images and their signatures. The heads sort.</caption>\n<thead><tr>",
    )?;
    for (class, head) in COLUMNS {
        write!(
            out,
            "<th scope=\"col\" class=\"{class}\" aria-sort=\"none\">\
             <button type=\"button\" data-sort=\"{class}\">{head}</button></th>"
        )?;
    }
    out.write_all(
        b"</tr></thead>\n<tbody></tbody></table></div>\n\
          <nav class=\"pager\" aria-label=\"Pages of the table\">\
          <button type=\"button\" id=\"first\">First</button>\
          <button type=\"button\" id=\"previous\">Previous</button>\
          <span id=\"place\"></span>\
          <button type=\"button\" id=\"next\">Next</button>\
          <button type=\"button\" id=\"last\">Last</button>\
          <label>Rows <select id=\"rows\"><option>50</option><option selected>100</option>\
          <option>500</option><option>1000</option></select></label></nav>\n</div>\n\
          <noscript>\n<div class=\"scroll\"><table>\n\
          <caption class=\"hide\">Images and their signatures</caption>\n<thead><tr>",
    )?;
    for (class, head) in COLUMNS {
        write!(out, "<th scope=\"col\" class=\"{class}\">{head}</th>")?;
    }
    out.write_all(b"</tr></thead>\n<tbody>\n")?;
    for row in &page.rows {
        out.write_all(plain_row(page, row).as_bytes())?;
    }
    out.write_all(b"</tbody></table></div>\n</noscript>\n</section>\n")
}

fn plain_row(page: &Page, row: &Row) -> String {
    let mut signers = String::new();
    for number in &row.accepted {
        if let Some(signer) = page.signers.all.get(*number) {
            let comma = if signers.is_empty() { "" } else { ", " };
            let _ = write!(signers, "{comma}<bdi>{}</bdi>", html(&signer.name));
        }
    }
    let reason = row.reason.and_then(|number| page.texts.all.get(number));
    let reason = reason.map_or_else(String::new, |reason| format!("<p>{}</p>", html(reason)));
    let covered = match (row.covered, row.size) {
        (Some(covered), Some(size)) if size > 0 => percent_of(covered, size),
        _ => String::new(),
    };
    format!(
        "<tr><td>{}</td><th scope=\"row\"><bdi>{}</bdi>{reason}</th><td>{signers}</td>\
         <td>{}</td><td>{}</td><td>{covered}</td></tr>\n",
        name(row.verdict),
        html(&row.path),
        row.signed_at.map_or_else(String::new, day),
        row.size.map_or_else(String::new, size),
    )
}

/// Everything that the script shows, as JSON that cannot end its element.
fn data(page: &Page, out: &mut dyn Write) -> io::Result<()> {
    let verdicts = Verdict::ALL.map(|verdict| [name(verdict), class(verdict), mark(verdict)]);
    let ages = Age::ALL.map(age_name);
    write!(out, "{{\"verdicts\":{}", script(&verdicts))?;
    write!(out, ",\"ages\":{}", script(&ages))?;
    write!(out, ",\"texts\":{}", script(&page.texts.all))?;
    write!(out, ",\"signers\":{}", script(&page.signers.all))?;
    write!(out, ",\"facts\":{}", script(&page.facts.all))?;
    // The table names most signers first.
    let mut uses = BTreeMap::<usize, usize>::new();
    for signer in page.rows.iter().flat_map(|row| &row.accepted) {
        *uses.entry(*signer).or_default() += 1;
    }
    let mut order: Vec<_> = uses.into_iter().collect();
    order.sort_by_key(|(number, count)| (std::cmp::Reverse(*count), *number));
    write!(out, ",\"order\":{},\"rows\":[", script(&order))?;
    for (index, row) in page.rows.iter().enumerate() {
        let comma = if index == 0 { "\n" } else { ",\n" };
        let cells = (
            &row.path,
            row.verdict as usize,
            row.reason,
            row.size,
            row.covered,
            row.signed_at,
            row.age as usize,
            &row.accepted,
            &row.others,
        );
        write!(
            out,
            "{comma}[{},{}]",
            script(&cells),
            escaped_json(&row.details)
        )?;
    }
    out.write_all(b"]}")
}

fn script(value: &impl Serialize) -> String {
    // Strings and numbers always serialise.
    escaped_json(&serde_json::to_string(value).unwrap_or_default())
}

/// Keeps JSON from being read as anything else: no `<`, `>` or `&` is left.
fn escaped_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Text between tags or in a quoted attribute.
fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The end of a long id, which is what people compare first.
fn short(id: &str) -> String {
    let count = id.chars().count();
    match count {
        0..=20 => id.to_owned(),
        _ => format!("…{}", id.chars().skip(count - 16).collect::<String>()),
    }
}

fn day(seconds: i64) -> String {
    let text = utc(seconds);
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn size(bytes: u64) -> String {
    readable(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number as u64))
}

fn share(part: usize, all: usize) -> String {
    match all {
        0 => String::new(),
        _ => percent(part, all),
    }
}

fn percent(part: usize, all: usize) -> String {
    percent_of(part as u64, all as u64)
}

/// Never `100 %` or `0 %` for less than all or more than nothing.
fn percent_of(part: u64, all: u64) -> String {
    let value = part as f64 / all.max(1) as f64 * 100.0;
    match part {
        0 => "0 %".to_owned(),
        part if part >= all => "100 %".to_owned(),
        _ => format!("{:.1} %", value.clamp(0.1, 99.9)),
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Refused => "Refused",
        Verdict::Error => "Could not be judged",
        Verdict::Unknown => "Signer not known",
        Verdict::Unsigned => "Not signed, or in part",
        Verdict::Demands => "Demands not met",
        Verdict::Verified => "Verified",
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Refused => "bad",
        Verdict::Error => "error",
        Verdict::Unknown => "unknown",
        Verdict::Unsigned => "unsigned",
        Verdict::Demands => "demands",
        Verdict::Verified => "ok",
    }
}

fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Refused => "✕",
        Verdict::Error => "!",
        Verdict::Unknown => "?",
        Verdict::Unsigned => "–",
        Verdict::Demands => "§",
        Verdict::Verified => "✓",
    }
}

fn age_name(age: Age) -> &'static str {
    match age {
        Age::Future => "in the future",
        Age::Month => "up to 30 days",
        Age::Quarter => "31 to 90 days",
        Age::Year => "91 days to a year",
        Age::TwoYears => "1 to 2 years",
        Age::FiveYears => "2 to 5 years",
        Age::Older => "more than 5 years",
        Age::Untold => "no time in it",
        Age::None => "no signature that counts",
    }
}
