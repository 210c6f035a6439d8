//! Patterns of paths and of the owners of certificates.

/// A pattern of absolute paths.
///
/// `*` is any run of bytes without `/`, `?` one byte that is no `/`, and `**` as a whole element
/// any number of elements. All else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Run,
    /// `**/`: elements with their slash, none too.
    Elements,
    /// `**` at the end: anything, but something.
    Rest,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Nothing, or too much to be a path.
    #[error("a path pattern has 1 to {MAX_PATTERN} bytes")]
    Length,
    /// `**` beside something else.
    #[error("** must stand alone between slashes")]
    Stars,
    /// `//`, `.`, `..`, or a slash at the end: no path without links has them.
    #[error("the elements of a path pattern must not be empty, '.' or '..'")]
    Element,
    /// A character that other tools give a meaning.
    #[error("{0:?} has no meaning in a path pattern; ? stands for any one byte")]
    Reserved(char),
    /// Not `TYPE=VALUE` between commas.
    #[error("a subject pattern is a list of TYPE=VALUE, as in CN=*,O=Example")]
    Subject,
    /// An attribute that has no short name.
    #[error("{0:?} is none of {known}", known = KNOWN.join(", "))]
    Attribute(String),
}

impl PathPattern {
    /// Reads a pattern; one that does not begin with `/` is about paths below `folder`, which is
    /// absolute and taken as it is.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn parse(text: &str, folder: &[u8]) -> Result<Self, BadPattern> {
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(BadPattern::Length);
        }
        if let Some(reserved) = text.chars().find(|c| "[]{}\\".contains(*c)) {
            return Err(BadPattern::Reserved(reserved));
        }
        let mut tokens = Vec::new();
        let elements = match text.strip_prefix('/') {
            Some(elements) => elements,
            None => {
                let folder = folder.strip_suffix(b"/").unwrap_or(folder);
                tokens.extend(folder.iter().map(|byte| Token::Byte(*byte)));
                text
            }
        };
        tokens.push(Token::Byte(b'/'));
        let mut elements = elements.split('/').peekable();
        while let Some(element) = elements.next() {
            let is_last = elements.peek().is_none();
            match element {
                "" | "." | ".." => return Err(BadPattern::Element),
                "**" if is_last => tokens.push(Token::Rest),
                "**" => {
                    tokens.push(Token::Elements);
                    continue;
                }
                _ if element.contains("**") => return Err(BadPattern::Stars),
                _ => tokens.extend(element.bytes().map(|byte| match byte {
                    b'*' => Token::Run,
                    b'?' => Token::One,
                    other => Token::Byte(other),
                })),
            }
            if !is_last {
                tokens.push(Token::Byte(b'/'));
            }
        }
        Ok(Self(tokens))
    }

    /// Whether a path, absolute and free of links, fits as a whole.
    pub fn matches(&self, path: &[u8]) -> bool {
        // Which tokens may come next; at most one step per token and byte.
        let end = self.0.len();
        let mut at = vec![false; end.saturating_add(1)];
        if let Some(first) = at.first_mut() {
            *first = true;
        }
        self.skip(&mut at, true);
        let mut previous = None;
        for byte in path {
            let mut next = vec![false; at.len()];
            let mut allow = |index: usize| {
                if let Some(state) = next.get_mut(index) {
                    *state = true;
                }
            };
            for (index, token) in self.0.iter().enumerate() {
                if at.get(index) != Some(&true) {
                    continue;
                }
                let behind = index.saturating_add(1);
                match token {
                    Token::Byte(wanted) if wanted == byte => allow(behind),
                    Token::One if *byte != b'/' => allow(behind),
                    Token::Run if *byte != b'/' => allow(index),
                    Token::Elements => allow(index),
                    Token::Rest => {
                        allow(index);
                        allow(behind);
                    }
                    Token::Byte(_) | Token::One | Token::Run => {}
                }
            }
            at = next;
            previous = Some(*byte);
            self.skip(&mut at, previous == Some(b'/'));
        }
        previous.is_some() && at.last() == Some(&true)
    }

    /// Steps over tokens that may stand for nothing; elements end behind a slash.
    fn skip(&self, at: &mut [bool], behind_slash: bool) {
        for (index, token) in self.0.iter().enumerate() {
            let may_end = match token {
                Token::Run => true,
                Token::Elements => behind_slash,
                Token::Byte(_) | Token::One | Token::Rest => false,
            };
            let ends = may_end && at.get(index) == Some(&true);
            if let (true, Some(next)) = (ends, at.get_mut(index.saturating_add(1))) {
                *next = true;
            }
        }
    }
}

/// A pattern of the owner of a certificate: `CN=*,OU=Release,O=Example`.
///
/// Written as RFC 4514 has it, last element first. Every element must be there, in this order and
/// with one attribute each; `*` in a value is any run of characters, `\` takes the meaning from
/// the next one. `*` alone as first element stands for any number of elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectPattern {
    open: bool,
    elements: Vec<(String, Vec<Piece>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    Run,
}

/// One element of a name: its attributes with their short name and their value, if it is text.
pub type Element = Vec<(String, Option<String>)>;

impl SubjectPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.len() > MAX_PATTERN {
            return Err(BadPattern::Subject);
        }
        let mut parts = vec![Vec::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                ',' => {
                    parts.push(Vec::new());
                    continue;
                }
                '\\' => Piece::Char(chars.next().ok_or(BadPattern::Subject)?),
                '*' => Piece::Run,
                other => Piece::Char(other),
            };
            parts.last_mut().ok_or(BadPattern::Subject)?.push(piece);
        }
        let open = parts.first().map(Vec::as_slice) == Some(&[Piece::Run]);
        let elements = parts.iter().skip(usize::from(open)).map(|part| {
            let equals = part.iter().position(|piece| *piece == Piece::Char('='));
            let (name, value) = part.split_at(equals.ok_or(BadPattern::Subject)?);
            let name: Option<String> = name
                .iter()
                .map(|piece| match piece {
                    Piece::Char(c) => Some(*c),
                    Piece::Run => None,
                })
                .collect();
            let name = name.ok_or(BadPattern::Subject)?;
            match KNOWN
                .iter()
                .find(|known| known.eq_ignore_ascii_case(name.trim()))
            {
                Some(known) => Ok(((*known).to_owned(), value.iter().skip(1).copied().collect())),
                None => Err(BadPattern::Attribute(name)),
            }
        });
        Ok(Self {
            open,
            elements: elements.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a name fits as a whole; its elements come last first.
    pub fn matches(&self, name: &[Element]) -> bool {
        let more = name.len().checked_sub(self.elements.len());
        let Some(more) = more.filter(|more| self.open || *more == 0) else {
            return false;
        };
        let rest = name.iter().skip(more);
        rest.zip(&self.elements).all(|(element, (wanted, value))| {
            let [(found, Some(text))] = element.as_slice() else {
                return false;
            };
            found == wanted && fits(value, text)
        })
    }
}

fn fits(pattern: &[Piece], text: &str) -> bool {
    // The last run that was met, and how far the text went then.
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut next) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while next < text.len() {
        match (pattern.get(at), text.get(next)) {
            (Some(Piece::Run), _) => {
                back = Some((at, next));
                at = at.saturating_add(1);
            }
            (Some(Piece::Char(wanted)), Some(found)) if wanted == found => {
                at = at.saturating_add(1);
                next = next.saturating_add(1);
            }
            _ => match back {
                Some((run, from)) => {
                    back = Some((run, from.saturating_add(1)));
                    at = run.saturating_add(1);
                    next = from.saturating_add(1);
                }
                None => return false,
            },
        }
    }
    let rest = pattern.get(at..).unwrap_or_default();
    rest.iter().all(|piece| *piece == Piece::Run)
}

/// Greatest length of a pattern, in bytes.
const MAX_PATTERN: usize = 4096;

/// Attributes that certificates are told apart by.
const KNOWN: [&str; 12] = [
    "CN",
    "SERIALNUMBER",
    "C",
    "L",
    "ST",
    "STREET",
    "O",
    "OU",
    "POSTALCODE",
    "UID",
    "DC",
    "emailAddress",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn path(pattern: &str, path: &str) -> bool {
        let pattern = PathPattern::parse(pattern, b"/srv/policies").unwrap();
        pattern.matches(path.as_bytes())
    }

    #[test]
    fn path_patterns_are_about_whole_elements() {
        for (pattern, fits, differs) in [
            (
                "/srv/a.sif",
                &["/srv/a.sif"][..],
                &["/srv/a.sif2", "/srv/A.sif", "/x/srv/a.sif"][..],
            ),
            (
                "/srv/*.sif",
                &["/srv/a.sif", "/srv/.sif"],
                &["/srv/a/b.sif", "/srv/a.sif/b", "/srv/a"],
            ),
            (
                "/srv/?.sif",
                &["/srv/a.sif"],
                &["/srv/.sif", "/srv/ab.sif", "/srv//.sif"],
            ),
            ("/srv/*/x", &["/srv/a/x"], &["/srv/x", "/srv/a/b/x"]),
            (
                "/srv/**",
                &["/srv/a", "/srv/a/b/c"],
                &["/srv", "/srv/", "/srvx/a"],
            ),
            (
                "/srv/**/x",
                &["/srv/x", "/srv/a/x", "/srv/a/b/x"],
                &["/srv/ax", "/srv/a/bx", "/x"],
            ),
            ("/**", &["/a", "/a/b"], &["", "/"]),
            (
                "/**/a*.sif",
                &["/a.sif", "/b/ab.sif"],
                &["/ba.sif", "/b/ba.sif"],
            ),
            (
                "/a/**/b/**/c",
                &["/a/b/c", "/a/x/b/y/z/c"],
                &["/a/c", "/a/b/xc"],
            ),
            (
                "*.sif",
                &["/srv/policies/a.sif"],
                &["/a.sif", "/srv/policies/b/a.sif"],
            ),
            (
                "**/a",
                &["/srv/policies/a", "/srv/policies/b/a"],
                &["/a", "/srv/a"],
            ),
        ] {
            for fit in fits {
                assert!(path(pattern, fit), "{pattern} {fit}");
            }
            for differ in differs {
                assert!(!path(pattern, differ), "{pattern} {differ}");
            }
        }
        // What stands in the folder of the policy means nothing but itself.
        let odd = PathPattern::parse("a", b"/w*/[x]").unwrap();
        assert!(odd.matches(b"/w*/[x]/a") && !odd.matches(b"/ww/[x]/a"));
        let root = PathPattern::parse("a", b"/").unwrap();
        assert!(root.matches(b"/a") && !root.matches(b"//a"));
    }

    #[test]
    fn other_path_patterns_are_refused() {
        let refused = |text: &str| PathPattern::parse(text, b"/").unwrap_err();
        for text in ["a**", "/**a/b", "/a/***"] {
            assert_eq!(refused(text), BadPattern::Stars, "{text}");
        }
        for text in ["/", "//a", "/a/", "./a", "../a", "/a/../b", "/a/."] {
            assert_eq!(refused(text), BadPattern::Element, "{text}");
        }
        for text in ["/[ab]", "/{a,b}", "/a\\*"] {
            assert!(matches!(refused(text), BadPattern::Reserved(_)), "{text}");
        }
        assert_eq!(refused(""), BadPattern::Length);
        assert_eq!(refused(&"a".repeat(5000)), BadPattern::Length);
    }

    #[test]
    fn a_long_pattern_costs_no_more_than_its_length() {
        let pattern = PathPattern::parse(&"/**/*a".repeat(600), b"/").unwrap();
        let path = "/a".repeat(2000) + "b";
        assert!(!pattern.matches(path.as_bytes()));
        let pattern = SubjectPattern::parse(&format!("CN={}", "*a".repeat(1000))).unwrap();
        assert!(!pattern.matches(&[vec![("CN".to_owned(), Some("a".repeat(3000) + "b"))]]));
    }

    fn name(elements: &[(&str, &str)]) -> Vec<Element> {
        let element =
            |(kind, value): &(&str, &str)| vec![(kind.to_string(), Some(value.to_string()))];
        elements.iter().map(element).collect()
    }

    fn subject(pattern: &str, elements: &[(&str, &str)]) -> bool {
        SubjectPattern::parse(pattern)
            .unwrap()
            .matches(&name(elements))
    }

    #[test]
    fn subject_patterns_are_about_elements_not_text() {
        let alice = [("CN", "Alice"), ("OU", "Release"), ("O", "Example")];
        for pattern in [
            "CN=Alice,OU=Release,O=Example",
            "cn=*,ou=Release,O=Example",
            "CN=A*e,OU=Rel*,O=*",
            "*",
            "*,O=Example",
            "*,OU=Release,O=Example",
        ] {
            assert!(subject(pattern, &alice), "{pattern}");
        }
        for pattern in [
            "CN=Alice",
            "CN=Alice,O=Example",
            "OU=Release,CN=Alice,O=Example",
            "CN=alice,OU=Release,O=Example",
            "*,O=Other",
            "*,CN=Alice",
            "CN=Alice,OU=Release,O=Example,C=DE",
            "CN=Alic\\*,OU=Release,O=Example",
        ] {
            assert!(!subject(pattern, &alice), "{pattern}");
        }
        // A value cannot pose as an element.
        let hostile = [("CN", "Mallory,OU=Release,O=Example")];
        for pattern in ["CN=*,OU=Release,O=Example", "*,O=Example"] {
            assert!(!subject(pattern, &hostile), "{pattern}");
        }
        assert!(subject("CN=Mallory\\,OU\\=Release\\,O=Example", &hostile));
        assert!(subject("CN=a=b", &[("CN", "a=b")]));
        assert!(subject("CN=", &[("CN", "")]) && !subject("CN=", &[("CN", "x")]));
        // Two attributes in one element, or a value that is no text.
        let both = vec![vec![
            ("CN".to_owned(), Some("Alice".to_owned())),
            ("O".to_owned(), Some("Example".to_owned())),
        ]];
        let odd = vec![vec![("CN".to_owned(), None)]];
        for name in [both, odd] {
            assert!(!SubjectPattern::parse("CN=*").unwrap().matches(&name));
            assert!(!SubjectPattern::parse("*,O=Example").unwrap().matches(&name));
        }
        for text in ["", "Alice", "CN=a,,O=b", "CN=a\\", "*=a", "CN=a,*"] {
            let refused = SubjectPattern::parse(text);
            assert_eq!(refused, Err(BadPattern::Subject), "{text}");
        }
        assert!(matches!(
            SubjectPattern::parse("X=a"),
            Err(BadPattern::Attribute(_))
        ));
    }

    #[test]
    fn a_pattern_has_4096_bytes_at_most() {
        for (len, fits) in [(4096, true), (4097, false), (4098, false)] {
            let path = format!("/{}", "a".repeat(len - 1));
            assert_eq!(PathPattern::parse(&path, b"/").is_ok(), fits, "{len}");
            let subject = format!("CN={}", "a".repeat(len - 3));
            assert_eq!(SubjectPattern::parse(&subject).is_ok(), fits, "{len}");
        }
    }
}
