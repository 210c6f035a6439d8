//! Renders what is configured, in the tables of the originals.
//!
//! Source: spec/cli.md 6.4, 6.7 to 6.9, 12.6.

use super::{Tables, is_plain, one_line, tables};
use crate::remote::address::same_service;
use crate::remote::config::{Config, Credential, Endpoint};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr as _;

/// The state of a service.
pub struct ServiceRow {
    /// Its name.
    pub name: String,
    /// Its version; none if it does not work.
    pub version: Option<String>,
    /// Its address.
    pub uri: String,
}

/// All endpoints, by name.
pub fn remotes(config: &Config) -> String {
    let mut rows = vec![row([
        "NAME",
        "URI",
        "DEFAULT?",
        "GLOBAL?",
        "EXCLUSIVE?",
        "SECURE?",
    ])];
    for (name, endpoint) in &config.remotes {
        rows.push(row([
            name,
            &endpoint.uri,
            mark(!name.is_empty() && *name == config.active),
            mark(endpoint.system),
            mark(endpoint.exclusive),
            security(endpoint.insecure),
        ]));
    }
    format!("\n{}", table(&rows))
}

/// Heading of an endpoint in the list of key servers.
pub fn keyserver_heading(config: &Config, name: &str, endpoint: &Endpoint) -> String {
    let system = if endpoint.system { "*" } else { "" };
    let default = if name == config.active { "^" } else { "" };
    format!("\n{} {system}{default}\n", one_line(name))
}

/// The key servers of an endpoint that are asked.
pub fn keyservers(endpoint: &Endpoint, logins: &[Credential]) -> String {
    let asked = endpoint.keyservers.iter().filter(|k| !k.skip);
    let heard = is_plain().then(|| row(["", "ORDER", "URI", "SECURITY", "LOGGED IN"]));
    let rows = asked.zip(1..).map(|(keyserver, order)| {
        let logged_in = logins
            .iter()
            .any(|login| same_service(&login.uri, &keyserver.uri));
        if tables() == Tables::Apptainer && !is_plain() {
            let lock = if keyserver.insecure { "" } else { "🔒" };
            return row([" ", &format!("#{order}"), &keyserver.uri, lock]);
        }
        row([
            if is_plain() { "" } else { " " },
            &format!("#{order}"),
            &keyserver.uri,
            if keyserver.insecure { "no TLS" } else { "TLS" },
            match (logged_in, is_plain()) {
                (false, _) => "",
                (true, false) => "+",
                (true, true) => "yes",
            },
        ])
    });
    table(&heard.into_iter().chain(rows).collect::<Vec<_>>())
}

/// What stands in place of key servers that nobody knows.
pub fn no_keyservers() -> &'static str {
    match tables() {
        Tables::Apptainer => "   (unable to fetch associated keyserver info for this endpoint)\n",
        _ => "(unable to fetch associated keyserver info for this endpoint)\n",
    }
}

/// End of the list of key servers.
pub fn keyserver_legend() -> &'static str {
    match tables() {
        Tables::Apptainer => "\n(* = system endpoint, ^ = default endpoint)\n",
        _ => {
            "\n(* = system endpoint, ^ = default endpoint,\n \
             + = user is logged in directly to this keyserver)\n"
        }
    }
}

/// Registries with stored logins.
pub fn registries(logins: &[Credential]) -> String {
    let mut rows = vec![row(["URI", "SECURE?"])];
    let theirs = tables() == Tables::Apptainer;
    let is_registry = |uri: &str| {
        // Apptainer lists key servers as well.
        theirs || uri.starts_with("docker://") || uri.starts_with("oras://")
    };
    for login in logins.iter().filter(|login| is_registry(&login.uri)) {
        rows.push(row([&login.uri, security(login.insecure)]));
    }
    if theirs {
        return format!("\n{}", table(&rows));
    }
    if rows.len() == 1 {
        return "\n(no registries with stored login information found)\n\n".to_owned();
    }
    format!("\n{}\n", table(&rows))
}

/// State of the services of an endpoint.
pub fn services(services: &[ServiceRow]) -> String {
    let mut rows = vec![row(["SERVICE", "STATUS", "VERSION", "URI"])];
    for service in services {
        rows.push(row([
            &title(&service.name),
            if service.version.is_some() {
                "OK"
            } else {
                "N/A"
            },
            service.version.as_deref().unwrap_or_default(),
            &service.uri,
        ]));
    }
    table(&rows)
}

fn mark(yes: bool) -> &'static str {
    match (yes, is_plain()) {
        (false, _) => "",
        (true, false) => "✓",
        (true, true) => "yes",
    }
}

fn security(insecure: bool) -> &'static str {
    match (insecure, is_plain()) {
        (false, _) => mark(true),
        (true, false) => "✗!",
        (true, true) => "no",
    }
}

fn title(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars.flat_map(char::to_lowercase)).collect()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| one_line(cell)).collect()
}

/// Columns as wide as their widest cell and two blanks; the last is not padded. The first row is
/// the head.
fn table(rows: &[Vec<String>]) -> String {
    if is_plain() {
        return facts(rows);
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.width()).max();
        widest.unwrap_or_default().saturating_add(2)
    };
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column.saturating_add(1) < row.len() {
                // Columns of a terminal, of which a character may have two or none.
                let blanks = width(column).saturating_sub(cell.width());
                out.push_str(&" ".repeat(blanks));
            }
        }
        out.push('\n');
    }
    out
}

/// A table as lines `NAME: value`, an empty line between its rows.
fn facts(rows: &[Vec<String>]) -> String {
    let Some((head, rows)) = rows.split_first() else {
        return String::new();
    };
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        let cells = head.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        for (name, cell) in cells {
            let _ = writeln!(out, "{}: {cell}", name.trim_end_matches('?'));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> String {
        keyservers(
            &Config::parse(text.as_bytes()).ok().unwrap().remotes["a"],
            &[],
        )
        .replace(' ', "·")
    }

    #[test]
    fn lines_of_key_servers_have_the_originals_blanks() {
        assert_eq!(
            lines(
                "Remotes: {a: {Keyservers: [{URI: 'https://keys.sylabs.io'}, {URI: 'http://localhost:11371', Insecure: true}]}}"
            ),
            "···#1··https://keys.sylabs.io··TLS·····\n···#2··http://localhost:11371··no·TLS··\n"
        );
        assert_eq!(
            lines(
                "Remotes: {a: {Keyservers: [{URI: 'http://localhost:11371'}, {URI: 'https://x', Skip: true}, {URI: 'https://keys.sylabs.io'}]}}"
            ),
            "···#1··http://localhost:11371··TLS··\n···#2··https://keys.sylabs.io··TLS··\n"
        );
    }

    /// Characters of East Asia take two columns, accents that combine take none.
    #[test]
    fn wide_characters_are_counted_as_they_are_shown() {
        let rows = [
            row(["NAME", "URI"]),
            row(["東京", "a"]),
            row(["e\u{301}t", "b"]),
        ];
        assert_eq!(table(&rows), "NAME  URI\n東京  a\ne\u{301}t    b\n");
    }

    #[test]
    fn facts_are_one_to_a_line() {
        let rows = [
            row(["NAME", "GLOBAL?", "URI"]),
            row(["a", "", "x"]),
            row(["b", "yes", "y"]),
        ];
        assert_eq!(
            facts(&rows),
            "NAME: a\nURI: x\n\nNAME: b\nGLOBAL: yes\nURI: y\n"
        );
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        let text = remotes(
            &Config::parse(b"Active: a\nRemotes: {\"a\\e[2J\": {URI: \"h\\nx\"}}")
                .ok()
                .unwrap(),
        );
        assert!(text.contains("a[2J  hx"), "{text}");
        assert_eq!(title("keyServer"), "Keyserver");
    }
}
