//! One recorded call.

use super::common::called::Called;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A call, and what the original answered.
#[derive(Clone, Debug)]
pub struct Record {
    /// Scenario and step, or the command line: names the record in lists.
    pub name: String,
    /// Whose answer this is.
    pub origin: Called,
    /// What follows the program name.
    pub argv: Vec<String>,
    /// Exit code.
    pub exit: i32,
    /// Standard output, or all that the terminal showed.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// Awaited end of a question and the line typed at a terminal.
    pub typed: Vec<(String, String)>,
    /// Whether the terminal echoed when each line was typed.
    pub echo: Vec<bool>,
    /// Files after the call: what is known of each.
    pub files: BTreeMap<String, Value>,
    /// All fields of the record.
    pub json: Value,
}

impl Record {
    /// Reads a line of a record file; `name` makes its name.
    pub fn new(json: Value, name: impl Fn(&Value) -> String) -> Self {
        let name = name(&json);
        let stdout = match json["stdout_base64"].as_str() {
            Some(text) => BASE64_STANDARD.decode(text).expect("base64 output"),
            None => text(&json["stdout"]).into_bytes(),
        };
        let pairs = array(&json["typed"]).iter();
        let files = json["files"].as_object().cloned().unwrap_or_default();
        Self {
            name,
            origin: Called::Apptainer,
            argv: array(&json["argv"]).iter().map(text).collect(),
            exit: json["rc"]
                .as_i64()
                .and_then(|code| i32::try_from(code).ok())
                .expect("exit code"),
            stdout,
            stderr: text(&json["stderr"]),
            typed: pairs.map(|p| (text(&p[0]), text(&p[1]))).collect(),
            echo: array(&json["echo"])
                .iter()
                .map(|echo| echo.as_bool().expect("echo state"))
                .collect(),
            files: files.into_iter().collect(),
            json,
        }
    }

    /// The same as an answer of SingularityCE.
    pub fn of_singularity(self) -> Self {
        Self {
            origin: Called::Singularity,
            ..self
        }
    }

    /// The scenario's name, if the record has one.
    pub fn scenario(&self) -> &str {
        self.json["scenario"].as_str().unwrap_or_default()
    }

    /// Step number in the scenario.
    pub fn step(&self) -> u64 {
        self.json["step"].as_u64().unwrap_or_default()
    }

    /// Whether this is a step of a scenario.
    pub fn is(&self, scenario: &str, step: u64) -> bool {
        self.scenario() == scenario && self.step() == step
    }

    /// Whether the command line holds this word.
    pub fn has(&self, word: &str) -> bool {
        self.argv.iter().any(|arg| arg == word)
    }

    /// Whether a word of the command line contains this text.
    pub fn names(&self, part: &str) -> bool {
        self.argv.iter().any(|arg| arg.contains(part))
    }

    /// Whether the error ends with this sentence.
    pub fn ends(&self, sentence: &str) -> bool {
        self.stderr.trim_end().ends_with(sentence)
    }
}

/// All lines of a record file.
pub fn read(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a record per line"))
        .collect()
}

/// Items of a list; none if it is missing.
pub fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text; empty if it is missing.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
