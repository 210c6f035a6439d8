//! Where this program answers otherwise than the originals, on purpose.
//!
//! For users the same list stands in `docs/differences.md`.

use super::common::program::Answer;
use super::record::Record;
use std::fmt;

/// One deliberate difference.
pub struct Difference {
    /// Tests that meet it.
    pub tests: &'static [&'static str],
    /// Records that show it; each of them must.
    pub record: fn(&Record) -> bool,
    /// What differs, for people.
    pub what: &'static str,
    /// How the recorded answer has to be changed.
    pub edits: &'static [Edit],
    /// Why.
    pub reason: Reason,
}

/// A change of a recorded answer.
///
/// In texts, `{n}` is the last number of the recorded FATAL line and
/// `{command}` the second word of the command line.
pub enum Edit {
    /// Another exit code.
    Exit(i32),
    /// Another standard output.
    Stdout(&'static str),
    /// Another standard error.
    Stderr(&'static str),
    /// A text in standard output becomes another.
    Replace(&'static str, &'static str),
    /// More lines at the end of standard error.
    MoreStderr(&'static str),
    /// A line of advice in front of the FATAL line.
    Advice(&'static str),
    /// One more question: its end, the answer typed, whether it is echoed.
    Question(&'static str, &'static str, bool),
}

/// Why a difference is wanted: the place that decides it.
#[derive(Clone, Copy)]
pub enum Reason {
    /// spec/cli.md, section 10: the row.
    Decided(&'static str),
    /// spec/sif.md, table in 1.14: number of the row.
    Malformed(u8),
    /// spec/cli.md 0.1: flags may stand behind arguments.
    FlagsAnywhere,
    /// House style, section 5: the command adds advice to a refusal.
    Advice,
    /// SingularityCE does so, Apptainer does not.
    Singularity(&'static str),
    /// A convention outside the originals.
    Convention(&'static str),
    /// spec/sif.md: the section that tells the trap.
    Trap(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decided(row) => write!(f, "spec/cli.md 10: {row}"),
            Self::Malformed(row) => write!(f, "spec/sif.md 1.14 row {row}"),
            Self::FlagsAnywhere => f.write_str("spec/cli.md 0.1: flags may stand anywhere"),
            Self::Advice => f.write_str("advice stands in front of a refusal"),
            Self::Singularity(what) => write!(f, "as SingularityCE: {what}"),
            Self::Trap(section) => write!(f, "spec/sif.md {section}"),
            Self::Convention(what) => write!(f, "convention: {what}"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.reason)
    }
}

impl Difference {
    /// Adds what has to be typed in addition.
    pub fn prepare(&self, record: &mut Record) {
        for edit in self.edits {
            if let Edit::Question(question, answer, echo) = edit {
                let typed = (question.to_string(), answer.to_string());
                record.typed.push(typed);
                record.echo.push(*echo);
            }
        }
    }

    /// Changes a recorded answer into the one that is wanted.
    ///
    /// # Errors
    /// An edit changes nothing: the originals answer so already.
    pub fn apply(&self, answer: &mut Answer, record: &Record) -> Result<(), String> {
        let filled = |text: &str| {
            let command = record.argv.get(1).map_or("", String::as_str);
            text.replace("{command}", command)
                .replace("{n}", &last_number(&record.stderr))
        };
        for edit in self.edits {
            let before = answer.clone();
            match edit {
                Edit::Exit(code) => answer.exit = *code,
                Edit::Stdout(text) => answer.stdout = text.as_bytes().to_vec(),
                Edit::Stderr(text) => answer.stderr = filled(text),
                Edit::Replace(from, to) => {
                    let text = String::from_utf8_lossy(&answer.stdout).replace(from, to);
                    answer.stdout = text.into_bytes();
                }
                Edit::MoreStderr(text) => answer.stderr.push_str(text),
                Edit::Advice(line) => {
                    let line = format!("INFO:    {}\nFATAL: ", filled(line));
                    answer.stderr = answer.stderr.replace("FATAL: ", &line);
                }
                Edit::Question(_, _, echo) => answer.echo.push(*echo),
            }
            if *answer == before {
                return Err(format!("an edit changes nothing: {self}"));
            }
        }
        Ok(())
    }
}

fn last_number(text: &str) -> String {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    let last = numbers.rfind(|number| !number.is_empty());
    last.unwrap_or_default().to_owned()
}

const EXPECTED: &str = "expected";
const CLI: &str = "cli";
const EDIT: &str = "edit";
const SINGULARITY: &str = "singularity";

/// The whole list.
pub const ALL: &[Difference] = &[
    Difference {
        tests: &[CLI],
        record: |r| r.has("--ocsp-verify=false"),
        what: "--ocsp-verify=false asks nobody",
        edits: &[
            Edit::Exit(0),
            Edit::Stdout(
                "Objects verified:\nID  |GROUP   |LINK    |TYPE\n\
                 ------------------------------------------------\n\
                 1   |1       |NONE    |Def.FILE\n2   |1       |NONE    |JSON.Generic\n\
                 3   |1       |NONE    |FS\n",
            ),
            Edit::Stderr(
                "INFO:    Verifying image with key material from certificate 'leaf.pem'\n\
                 INFO:    Verified signature(s) from image 'x509-leaf.sif'\n",
            ),
        ],
        reason: Reason::Decided("`--ocsp-verify=false` enables OCSP (2.1)"),
    },
    // Advice.
    Difference {
        tests: &[EXPECTED, CLI, SINGULARITY],
        record: |r| r.ends("key material not provided for DSSE envelope signature"),
        what: "a signature by a PEM key names the flag that is missing",
        edits: &[Edit::Advice(
            "The signature was made with a PEM key; give its public key with --key",
        )],
        reason: Reason::Advice,
    },
    Difference {
        tests: &[EXPECTED, SINGULARITY],
        record: |r| r.ends("key material not provided for PGP clear-sign signature"),
        what: "a signature by an OpenPGP key names the flag that is missing",
        edits: &[Edit::Advice(
            "The signature was made with an OpenPGP key; --pgp judges such signatures too",
        )],
        reason: Reason::Advice,
    },
    Difference {
        tests: &[EXPECTED, CLI, SINGULARITY],
        record: |r| {
            let sentence = "integrity: signature not found for object group";
            let untold = r.has("--silent") || r.has("--legacy-insecure");
            r.stderr.contains(sentence) && !untold
        },
        what: "an unsigned group gets an explanation",
        edits: &[Edit::Advice(
            "No signature of the current format names group {n}: it is not signed, or only with \
             a legacy signature",
        )],
        reason: Reason::Advice,
    },
    Difference {
        tests: &[EXPECTED, SINGULARITY],
        record: |r| r.ends(UNGROUPED) && r.names("object-2-ungrouped"),
        what: "an object outside all groups is named",
        edits: &[Edit::Advice(
            "Object 2 is in no group, so no signature can cover it",
        )],
        reason: Reason::Advice,
    },
    Difference {
        tests: &[EXPECTED],
        record: |r| r.ends(UNGROUPED) && r.names("object-added-nogroup"),
        what: "an object outside all groups is named",
        edits: &[Edit::Advice(
            "Object 5 is in no group, so no signature can cover it",
        )],
        reason: Reason::Advice,
    },
    Difference {
        tests: &[EXPECTED, SINGULARITY],
        record: |r| r.ends("integrity: unexpected EOF"),
        what: "a signature that is cut off is named",
        edits: &[Edit::Advice(
            "Signature object 4 reaches past the end of the file: the image is cut short",
        )],
        reason: Reason::Advice,
    },
    Difference {
        tests: &[CLI, SINGULARITY],
        record: |r| {
            r.argv[0] == "sign"
                && r.ends("private key checksum failure")
                && r.exit == 255
                && !r.is("sign-keyidx-passphrase-pipe", 4)
                && !r.is("sign-selection-errors", 8)
        },
        what: "a wrong passphrase is called so",
        edits: &[Edit::Advice("The passphrase is wrong")],
        reason: Reason::Advice,
    },
    Difference {
        tests: &[CLI, SINGULARITY],
        record: |r| r.ends("sign container: keyring is empty"),
        what: "an empty keyring gets the commands that fill it",
        edits: &[Edit::Advice(
            "$DIR/keys/pgp-secret holds no key: make one with 'sigsif key newpair', or add one \
             with 'sigsif key import'",
        )],
        reason: Reason::Advice,
    },
    Difference {
        tests: &[CLI],
        record: |r| r.ends("tag byte does not have MSB set"),
        what: "a keyring that holds armored text gets the way out",
        edits: &[Edit::Advice(
            "$DIR/keys/pgp-public holds armored text; move it away and use 'sigsif key import' \
             on it",
        )],
        reason: Reason::Advice,
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("verify-local-errors", 7),
        what: "a file that is too short is measured",
        edits: &[Edit::Advice(
            "the global header is bytes 0..128, the file ends at byte 5",
        )],
        reason: Reason::Advice,
    },
    // Damaged images.
    Difference {
        tests: &[EXPECTED],
        record: |r| r.argv[1] == "header" && r.names("tampered-launch"),
        what: "control characters in a launch script are escaped",
        edits: &[Edit::Replace(
            "\0\0\0\0\0\u{1}",
            "\\x00\\x00\\x00\\x00\\x00\\x01",
        )],
        reason: Reason::Malformed(25),
    },
    Difference {
        tests: &[EXPECTED],
        record: |r| r.argv[0] == "sif" && r.names("dsse-p256.truncated"),
        what: "a cut image is shown with a warning",
        edits: &[Edit::MoreStderr(
            "WARNING: object 4: data is bytes 36864..38074, the file ends at byte 38010\n",
        )],
        reason: Reason::Malformed(16),
    },
    Difference {
        tests: &[EXPECTED],
        record: |r| r.argv[0] == "sif" && r.names("pgp-one.truncated"),
        what: "a cut image is shown with a warning",
        edits: &[Edit::MoreStderr(
            "WARNING: object 4: data is bytes 36864..38529, the file ends at byte 38465\n",
        )],
        reason: Reason::Malformed(16),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.scenario() == "odd-objects" && matches!(r.step(), 1..=6 | 9),
        what: "every fault of an image is told by a warning",
        edits: &[Edit::MoreStderr(
            "WARNING: object 1: data is bytes 8776..8786, the file ends at byte 8778\n\
             WARNING: descriptor at byte 7611: id 6 is used twice\n\
             WARNING: object 42: group field at byte 8200 lacks the mask that its group has\n\
             WARNING: object 6: data at byte 8776 overlaps object 6\n\
             WARNING: object 3: data at byte 8776 overlaps object 6\n\
             WARNING: object 4: data at byte 8776 overlaps object 3\n\
             WARNING: object 5: data at byte 8776 overlaps object 3\n\
             WARNING: object 42: data at byte 8776 overlaps object 3\n",
        )],
        reason: Reason::Malformed(19),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.scenario() == "odd-objects" && matches!(r.step(), 24 | 25),
        what: "every fault of an image is told by a warning",
        edits: &[Edit::MoreStderr(
            "WARNING: object 1: data is bytes 8776..8786, the file ends at byte 8778\n\
             WARNING: object 42: group field at byte 8200 lacks the mask that its group has\n\
             WARNING: object 4: data at byte 8776 overlaps object 3\n\
             WARNING: object 5: data at byte 8776 overlaps object 3\n\
             WARNING: object 42: data at byte 8776 overlaps object 3\n",
        )],
        reason: Reason::Malformed(17),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("odd-objects", 15),
        what: "a row ends behind the type when the hash type is unknown",
        edits: &[
            Edit::Replace(
                "5851-5853                 2    |",
                "5851-5853                 |Signature\n2    |",
            ),
            Edit::MoreStderr("WARNING: object 2: data at byte 5851 overlaps object 1\n"),
        ],
        reason: Reason::Malformed(24),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("odd-objects", 21),
        what: "the number of free descriptors is counted, not believed",
        edits: &[
            Edit::Exit(0),
            Edit::Stdout(concat!(
                "  Data Type:  JSON.Generic\n",
                "  ID:         1\n",
                "  Group ID:   1\n",
                "  Linked ID:  NONE\n",
                "  Offset:     5851\n",
                "  Size:       2\n",
            )),
            Edit::Stderr(""),
        ],
        reason: Reason::Malformed(10),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.scenario() == "load-errors" && r.has("table-negative-size.sif"),
        what: "a negative table size is refused",
        edits: &[
            Edit::Exit(1),
            Edit::Stdout(""),
            Edit::Stderr(
                "Error for command \"{command}\": header field 'descriptors size' at byte 104 \
                 is -1: must not be negative",
            ),
        ],
        reason: Reason::Malformed(7),
    },
    // Changed images.
    Difference {
        tests: &[EDIT],
        record: |r| {
            let group = r.argv.iter().skip_while(|word| *word != "--groupid").nth(1);
            let none = group.is_none_or(|group| group == "0");
            let kind = r
                .argv
                .iter()
                .skip_while(|word| *word != "--datatype")
                .nth(1);
            let refused = r.is("groups-and-links", 9) || r.is("add-errors", 13);
            r.argv[1] == "add"
                && r.exit == 0
                && none
                && !refused
                && kind.is_some_and(|kind| kind != "5")
        },
        what: "an object outside all groups breaks verification, and that is told",
        edits: &[Edit::MoreStderr(NO_GROUP)],
        reason: Reason::Trap("2.7"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.scenario() == "groups-and-links" && matches!(r.step(), 6 | 7),
        what: "a group number that cannot be stored is refused",
        edits: &[
            Edit::Exit(1),
            Edit::Stderr("Error for command \"add\": invalid group ID"),
        ],
        reason: Reason::Trap("1.5"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("groups-and-links", 9),
        what: "a link that cannot be stored is refused",
        edits: &[
            Edit::Exit(1),
            Edit::Stderr("Error for command \"add\": invalid object ID"),
        ],
        reason: Reason::Trap("1.5"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("groups-and-links", 16),
        what: "the refused objects are not there",
        edits: &[Edit::Stdout(concat!(
            "------------------------------------------------------------------------------\n",
            "ID   |GROUP   |LINK    |SIF POSITION (start-end)  |TYPE\n",
            "------------------------------------------------------------------------------\n",
            "1    |1       |NONE    |32176-32183               |JSON.Generic\n",
            "2    |2       |1       |32183-32190               |JSON.Generic\n",
            "3    |NONE    |99      |32190-32197               |JSON.Generic\n",
            "4    |NONE    |NONE    |32197-32204               |JSON.Generic\n",
            "5    |268435455 |NONE    |32204-32211               |JSON.Generic\n",
            "6    |NONE    |1   (G) |32211-32218               |JSON.Generic\n",
            "7    |NONE    |268435455 |32218-32225               |JSON.Generic\n",
            "8    |16      |NONE    |32225-32232               |JSON.Generic\n",
            "9    |8       |NONE    |32232-32239               |JSON.Generic\n",
            "10   |10      |NONE    |32239-32246               |JSON.Generic\n",
        ))],
        reason: Reason::Trap("1.5"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("groups-and-links", 19),
        what: "the refused objects are not there",
        edits: &[Edit::Replace("Linked ID:    NONE", "Linked ID:    1 (G)")],
        reason: Reason::Trap("1.5"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("groups-and-links", 20),
        what: "the refused objects are not there",
        edits: &[
            Edit::Replace("Group ID:     NONE", "Group ID:     16"),
            Edit::Replace("Linked ID:    1 (G)", "Linked ID:    NONE"),
        ],
        reason: Reason::Trap("1.5"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("groups-and-links", 21),
        what: "the refused objects are not there",
        edits: &[Edit::Replace("Group ID:     NONE", "Group ID:     8")],
        reason: Reason::Trap("1.5"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("add-errors", 13),
        what: "a partition type that nobody can read is refused",
        edits: &[
            Edit::Exit(1),
            Edit::Stderr("Error for command \"add\": invalid filesystem type: 9"),
        ],
        reason: Reason::Trap("2.7"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("add-errors", 21),
        what: "a partition type that nobody can read is refused",
        edits: &[Edit::Replace(
            "1    |NONE    |NONE    |32768-32991               |FS (Unknown/Unknown/amd64)\n",
            "",
        )],
        reason: Reason::Trap("2.7"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("add-errors", 14),
        what: "a folder is refused by its name, not by that of a system call",
        edits: &[Edit::Stderr(
            "Error for command \"add\": read .: is a directory",
        )],
        reason: Reason::Trap("2.7"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("add-errors", 15),
        what: "a position that no file can have is refused before it is tried",
        edits: &[Edit::Stderr(
            "Error for command \"add\": integer overflow when calculating alignment",
        )],
        reason: Reason::Trap("1.10"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("full-table", 4),
        what: "a full table grows",
        edits: &[
            Edit::Exit(0),
            Edit::Stderr(
                "INFO:    'image.sif' was written anew: its table of descriptors has 51 slots now\n",
            ),
            Edit::MoreStderr(NO_GROUP),
        ],
        reason: Reason::Trap("1.10"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("full-table", 5),
        what: "a full table grows",
        edits: &[Edit::Exit(0), Edit::Stderr(NO_GROUP)],
        reason: Reason::Trap("1.10"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.scenario() == "full-table" && matches!(r.step(), 6 | 10),
        what: "a full table grows",
        edits: &[Edit::Stdout(concat!(
            "Version:              01\n",
            "Primary Architecture: amd64\n",
            "Descriptors Free:     46\n",
            "Descriptors Total:    51\n",
            "Descriptors Offset:   4096\n",
            "Descriptors Size:     29 KiB\n",
            "Data Offset:          33931\n",
            "Data Size:            3 KiB\n",
        ))],
        reason: Reason::Trap("1.10"),
    },
    Difference {
        tests: &[EDIT],
        record: |r| r.is("full-table", 9),
        what: "a full table grows; data moves by 7 pages",
        edits: &[Edit::Stdout(concat!(
            "------------------------------------------------------------------------------\n",
            "ID   |GROUP   |LINK    |SIF POSITION (start-end)  |TYPE\n",
            "------------------------------------------------------------------------------\n",
            "1    |NONE    |NONE    |34523-34530               |JSON.Generic\n",
            "2    |NONE    |NONE    |37087-37187               |Generic/Raw\n",
            "3    |NONE    |NONE    |34537-34544               |JSON.Generic\n",
            "4    |NONE    |NONE    |34544-34551               |JSON.Generic\n",
            "5    |NONE    |NONE    |36864-37087               |FS (Squashfs/*System/amd64)\n",
        ))],
        reason: Reason::Trap("1.10"),
    },
    // More than the originals take.
    Difference {
        tests: &[SINGULARITY],
        record: |r| r.is("verify", 46),
        what: "several images at once",
        edits: &[
            Edit::Exit(255),
            Edit::Stdout(
                "error     a: open a: no such file or directory\n\
                 error     b: open b: no such file or directory\n",
            ),
            Edit::Stderr(
                "INFO:    Verifying image with PGP key material\n\
                 INFO:    2 images: 0 verified, 2 not judged\n\
                 FATAL:   2 of 2 image(s) not verified\n",
            ),
        ],
        reason: Reason::Convention("a loop over images is one command"),
    },
    Difference {
        tests: &[SINGULARITY, CLI],
        record: |r| r.is("key-export", 8) || r.is("usage-errors", 17),
        what: "the key can be named, then nothing is asked",
        edits: &[
            Edit::Exit(10),
            Edit::Stderr(
                "ERROR:   key export command failed: no key matching given fingerprint found\n",
            ),
        ],
        reason: Reason::Convention("scripts can export a key"),
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("key-global", 6),
        what: "a private key is not looked for where there are none",
        edits: &[Edit::Stderr(
            "FATAL:   Unable to remove private key: global keyring only holds public keys\n",
        )],
        reason: Reason::Singularity("its sentence says why"),
    },
    // Registries.
    Difference {
        tests: &[SINGULARITY],
        record: |r| r.is("keyserver-registry", 27),
        what: "no advice of Docker's about credential helpers",
        edits: &[Edit::Stderr(
            "INFO:    Token stored in $DIR/cfg/docker-config.json\n",
        )],
        reason: Reason::Convention("a library's advertisement is no message of the command"),
    },
    Difference {
        tests: &[SINGULARITY],
        record: |r| r.is("keyserver-registry", 36),
        what: "no advice of Docker's about credential helpers",
        edits: &[Edit::Stderr("INFO:    Token stored in $DIR/auth.json\n")],
        reason: Reason::Convention("a library's advertisement is no message of the command"),
    },
    // Command lines and questions.
    Difference {
        tests: &[CLI],
        record: |r| r.is("usage-errors", 3),
        what: "a flag may stand behind the image",
        edits: &[
            Edit::Exit(0),
            Edit::Stdout(concat!(
                "[LOCAL]            Signing entity: Alice Builder (fixture) <alice@example.org>\n",
                "[LOCAL]            Fingerprint: 31359731D5C34C90C977AAF822CC73292934D01F\n",
                "Objects verified:\n",
                "ID  |GROUP   |LINK    |TYPE\n",
                "------------------------------------------------\n",
                "1   |1       |NONE    |Def.FILE\n",
                "2   |1       |NONE    |JSON.Generic\n",
                "3   |1       |NONE    |FS\n",
            )),
            Edit::Stderr(
                "INFO:    Verifying image with PGP key material\n\
                 INFO:    Verified signature(s) from image 'pgp-one.sif'\n",
            ),
        ],
        reason: Reason::FlagsAnywhere,
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("verify-levels", 7),
        what: "NO_COLOR counts for labels as well",
        edits: &[Edit::Replace("\x1b[34mINFO:   \x1b[0m", "INFO:   ")],
        reason: Reason::Convention("NO_COLOR means no colour at all"),
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("sign-selection-errors", 8),
        what: "a missing image is told before the passphrase is asked for",
        edits: &[
            Edit::Stdout(""),
            Edit::Stderr(
                "INFO:    Signing image with PGP key material\n\
                 FATAL:   failed to sign container: open nosuch.sif: no such file or directory\n",
            ),
        ],
        reason: Reason::Decided("sign asks the passphrase before opening the file"),
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("sign-keyidx-passphrase-pipe", 4),
        what: "a pipe answers several questions",
        edits: &[
            Edit::Exit(0),
            Edit::Stderr(
                "INFO:    Signing image with PGP key material\n\
                 INFO:    Signature created and applied to image 'unsigned.sif'\n",
            ),
        ],
        reason: Reason::Decided("pipes lose lines"),
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("key-newpair-errors", 6),
        what: "a pipe answers several questions",
        edits: &[
            Edit::Exit(0),
            Edit::Replace(
                "WARNING: if there is no password set, your key is not secure. Do you want to \
                 continue? [y/n] ",
                "Generating Entity and OpenPGP Key Pair... done\n",
            ),
            Edit::Stderr(""),
        ],
        reason: Reason::Decided("pipes lose lines"),
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("sign-pem-kinds", 8),
        what: "the line end is no part of a piped password",
        edits: &[
            Edit::Exit(0),
            Edit::Stderr(
                "INFO:    Signing image with key material from 'cosign.key'\n\
                 Enter password for private key: \n\
                 INFO:    Signature created and applied to image 'unsigned.sif'\n",
            ),
        ],
        reason: Reason::Decided("cosign password via pipe: shared reader, split lines"),
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("sign-pem-kinds", 2),
        what: "encrypted PKCS#8 keys are read",
        edits: &[
            Edit::Exit(0),
            Edit::Stderr(
                "INFO:    Signing image with key material from 'p8e.pem'\n\
                 Enter password for private key: \n\
                 INFO:    Signature created and applied to image 'unsigned.sif'\n",
            ),
        ],
        reason: Reason::Singularity("encrypted PKCS#8 since 4.4.2"),
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("key-import-armor-first-block-only", 1),
        what: "every armored block of a file is imported",
        edits: &[Edit::Replace(
            "to the public keyring\n",
            "to the public keyring\nKey with fingerprint \
             CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109 successfully added to the public keyring\n",
        )],
        reason: Reason::Decided("import reads only the first armored block"),
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("key-import-armor-first-block-only", 2),
        what: "every armored block of a file is imported",
        edits: &[Edit::Replace(
            "    Length (in bits):  4096\n\n",
            concat!(
                "    Length (in bits):  4096\n\n",
                "1)  User:              Bob Reviewer (fixture) <bob@example.org>\n",
                "    Creation time:     2026-11-22 09:19:18 +0000 UTC\n",
                "    Fingerprint:       CFB1B28A0C076113E3DBE6DCEAD44FC6FCCBD109\n",
                "    Length (in bits):  4096\n\n",
            ),
        )],
        reason: Reason::Decided("import reads only the first armored block"),
    },
    Difference {
        tests: &[CLI],
        record: |r| r.is("key-import-new-password", 4),
        what: "an empty new password is questioned",
        edits: &[
            Edit::Question("[y/n] ", "y", true),
            Edit::Replace(
                "Retype your passphrase : \n",
                "Retype your passphrase : \nWARNING: if there is no password set, your key is not \
                 secure. Do you want to continue? [y/n] ",
            ),
        ],
        reason: Reason::Decided("--new-password left empty stores the key in clear"),
    },
];

/// Sentence about an object outside all groups.
const UNGROUPED: &str = "non-signature object not associated with object group";

/// What `sif add` says about an object in no group.
const NO_GROUP: &str = "WARNING: The new object is in no group (see --groupid): no signature can \
                        cover it, and 'verify' refuses an image with such an object\n";

/// What the final image of a scenario is instead of the recorded one, and why.
pub const IMAGES: &[(&str, FinalImage, &str)] = &[
    (
        "add-errors",
        FinalImage::Of("empty-image"),
        "the only object had types that nobody can read",
    ),
    (
        "delete-and-reuse",
        FinalImage::Tidy,
        "no bytes of deleted objects stay behind a new one",
    ),
    (
        "stale-bytes",
        FinalImage::Tidy,
        "no bytes of deleted objects stay in front of and behind a new one",
    ),
    (
        "full-table",
        FinalImage::Listed,
        "the table grew; what is in it is compared by 'sif list' and 'sif header'",
    ),
    (
        "groups-and-links",
        FinalImage::Listed,
        "three objects were refused; the others are compared by 'sif list' and 'sif info'",
    ),
];

/// Which image a scenario is to end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalImage {
    /// The recorded one, zero between objects and cut behind the last one.
    Tidy,
    /// The recorded one of another scenario.
    Of(&'static str),
    /// One that the recorded commands show completely.
    Listed,
}
