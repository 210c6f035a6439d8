//! Renders what is configured, in the tables of the originals.
//!
//! Source: spec/cli.md 6.4, 6.7 to 6.9, 12.6.

use super::one_line;
use crate::remote::address::same_service;
use crate::remote::config::{Config, Credential, Endpoint};
use std::fmt::Write as _;

const YES: &str = "✓";
const INSECURE: &str = "✗!";

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
    let rows: Vec<_> = asked
        .zip(1..)
        .map(|(keyserver, order)| {
            let logged_in = logins
                .iter()
                .any(|login| same_service(&login.uri, &keyserver.uri));
            row([
                " ",
                &format!("#{order}"),
                &keyserver.uri,
                if keyserver.insecure { "no TLS" } else { "TLS" },
                if logged_in { "+" } else { "" },
            ])
        })
        .collect();
    table(&rows)
}

/// What stands in place of key servers that nobody knows.
pub const NO_KEYSERVERS: &str = "(unable to fetch associated keyserver info for this endpoint)\n";

/// End of the list of key servers.
pub const KEYSERVER_LEGEND: &str = "\n(* = system endpoint, ^ = default endpoint,\n \
                                    + = user is logged in directly to this keyserver)\n";

/// Registries with stored logins.
pub fn registries(logins: &[Credential]) -> String {
    let mut rows = vec![row(["URI", "SECURE?"])];
    let is_registry = |uri: &str| uri.starts_with("docker://") || uri.starts_with("oras://");
    for login in logins.iter().filter(|login| is_registry(&login.uri)) {
        rows.push(row([&login.uri, security(login.insecure)]));
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
    if yes { YES } else { "" }
}

fn security(insecure: bool) -> &'static str {
    if insecure { INSECURE } else { YES }
}

fn title(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars.flat_map(char::to_lowercase)).collect()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| one_line(cell)).collect()
}

/// Columns as wide as their widest cell and two blanks; the last is not padded.
fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max();
        widest.unwrap_or_default().saturating_add(2)
    };
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let is_last = column.saturating_add(1) == row.len();
            let width = if is_last { 0 } else { width(column) };
            let _ = write!(out, "{cell:<width$}");
        }
        out.push('\n');
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
