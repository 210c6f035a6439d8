//! Closed sets of the format: codes, printed names, identifiers.
//!
//! Source: sylabs/sif v2 `pkg/sif/sif.go`, `descriptor.go`, `arch.go`.

use std::fmt;
use std::num::NonZeroU32;

/// Highest group number; the four bits above it are the mask.
pub const MAX_GROUP: u32 = 0x0fff_ffff;

/// Number of an object, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(NonZeroU32);

/// Number of an object group, 1 to [`MAX_GROUP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(NonZeroU32);

impl ObjectId {
    /// `None` for 0.
    pub fn new(id: u32) -> Option<Self> {
        NonZeroU32::new(id).map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl GroupId {
    /// `None` for 0 and for numbers that do not fit in 28 bits.
    pub fn new(id: u32) -> Option<Self> {
        NonZeroU32::new(id)
            .filter(|id| id.get() <= MAX_GROUP)
            .map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Declares an enum of codes with printed names and a catch-all.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident, $unknown:literal, $($(#[$vdoc:meta])* $variant:ident = $code:literal => $text:literal,)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
            /// A code that this version does not know.
            Unknown(i32),
        }

        impl $name {
            /// Every known value, in code order.
            pub const KNOWN: &'static [Self] = &[$(Self::$variant,)+];

            /// Reads the stored number.
            pub fn from_code(code: i32) -> Self {
                match code {
                    $($code => Self::$variant,)+
                    other => Self::Unknown(other),
                }
            }

            /// The stored number.
            pub fn code(self) -> i32 {
                match self {
                    $(Self::$variant => $code,)+
                    Self::Unknown(code) => code,
                }
            }

            /// The name as the originals print it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown(_) => $unknown,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

codes! {
    /// What an object holds.
    DataType, "Unknown",
    /// Definition file.
    DefFile = 0x4001 => "Def.FILE",
    /// Environment variables.
    EnvVars = 0x4002 => "Env.Vars",
    /// Labels.
    Labels = 0x4003 => "JSON.Labels",
    /// File system partition.
    Partition = 0x4004 => "FS",
    /// Signature.
    Signature = 0x4005 => "Signature",
    /// Generic JSON.
    GenericJson = 0x4006 => "JSON.Generic",
    /// Generic bytes.
    Generic = 0x4007 => "Generic/Raw",
    /// Cryptographic message.
    CryptoMessage = 0x4008 => "Cryptographic Message",
    /// Software bill of materials.
    Sbom = 0x4009 => "SBOM",
    /// Root OCI index.
    OciRootIndex = 0x400a => "OCI.RootIndex",
    /// OCI blob.
    OciBlob = 0x400b => "OCI.Blob",
}

codes! {
    /// File system of a partition.
    FsType, "Unknown",
    /// Squashfs.
    Squash = 1 => "Squashfs",
    /// Ext3.
    Ext3 = 2 => "Ext3",
    /// Immutable archive.
    Archive = 3 => "Archive",
    /// Raw data.
    Raw = 4 => "Raw",
    /// Encrypted squashfs.
    EncryptedSquash = 5 => "Encrypted squashfs",
    /// Gocryptfs squashfs, written by Apptainer.
    GocryptfsSquash = 6 => "Gocryptfs squashfs",
}

codes! {
    /// Role of a partition.
    PartType, "Unknown",
    /// System partition.
    System = 1 => "System",
    /// Primary system partition.
    PrimSys = 2 => "*System",
    /// Data partition.
    Data = 3 => "Data",
    /// Overlay partition.
    Overlay = 4 => "Overlay",
}

codes! {
    /// Hash type in a signature object's extra field.
    SignatureHash, "Unknown",
    /// SHA-256.
    Sha256 = 1 => "SHA-256",
    /// SHA-384.
    Sha384 = 2 => "SHA-384",
    /// SHA-512.
    Sha512 = 3 => "SHA-512",
    /// BLAKE2s-256.
    Blake2s256 = 4 => "BLAKE2s-256",
    /// BLAKE2b-256.
    Blake2b256 = 5 => "BLAKE2b-256",
}

codes! {
    /// Format of a cryptographic message.
    MessageFormat, "Unknown",
    /// OpenPGP.
    OpenPgp = 1 => "OpenPGP",
    /// PEM.
    Pem = 2 => "PEM",
}

codes! {
    /// Kind of a cryptographic message.
    MessageType, "Unknown",
    /// Clear-signed text.
    ClearSignature = 0x100 => "Clear Signature",
    /// RSA-OAEP.
    RsaOaep = 0x200 => "RSA-OAEP",
}

codes! {
    /// Format of a software bill of materials.
    SbomFormat, "unknown",
    /// CycloneDX JSON.
    CycloneDxJson = 1 => "cyclonedx-json",
    /// CycloneDX XML.
    CycloneDxXml = 2 => "cyclonedx-xml",
    /// GitHub JSON.
    GithubJson = 3 => "github-json",
    /// SPDX JSON.
    SpdxJson = 4 => "spdx-json",
    /// SPDX RDF.
    SpdxRdf = 5 => "spdx-rdf",
    /// SPDX tag-value.
    SpdxTagValue = 6 => "spdx-tag-value",
    /// SPDX YAML.
    SpdxYaml = 7 => "spdx-yaml",
    /// Syft JSON.
    SyftJson = 8 => "syft-json",
}

/// Architecture names in the order of their two-digit codes; 0 is unknown.
const ARCHES: [&str; 14] = [
    "unknown", "386", "amd64", "arm", "arm64", "ppc64", "ppc64le", "mips", "mipsle", "mips64",
    "mips64le", "s390x", "riscv64", "loong64",
];

/// Architecture as stored: two ASCII digits and a NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arch(pub [u8; 3]);

impl Arch {
    /// Code `00`: no architecture.
    pub const UNKNOWN: Self = Self(*b"00\0");

    /// The architecture with this code; `None` for 0 and unknown ones.
    pub fn from_number(code: u8) -> Option<Self> {
        if code == 0 || usize::from(code) >= ARCHES.len() {
            return None;
        }
        let digit = |value: u8| b'0'.saturating_add(value);
        Some(Self([digit(code / 10), digit(code % 10), 0]))
    }

    /// Go's name of the architecture, `unknown` for any other three bytes.
    pub fn name(self) -> &'static str {
        let [tens, ones, 0] = self.0 else {
            return "unknown";
        };
        if !tens.is_ascii_digit() || !ones.is_ascii_digit() {
            return "unknown";
        }
        let index = usize::from(tens & 0x0f)
            .saturating_mul(10)
            .saturating_add(usize::from(ones & 0x0f));
        ARCHES.get(index).copied().unwrap_or("unknown")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_architectures_follow_their_codes() {
        assert_eq!(Arch(*b"01\0").name(), "386");
        assert_eq!(Arch(*b"02\0").name(), "amd64");
        assert_eq!(Arch(*b"13\0").name(), "loong64");
        assert_eq!(Arch::from_number(4).map(Arch::name), Some("arm64"));
        assert_eq!(Arch::from_number(13).map(Arch::name), Some("loong64"));
        assert_eq!((Arch::from_number(0), Arch::from_number(14)), (None, None));
        for odd in [*b"14\0", *b"99\0", *b"0 \0", *b"020", *b"\0\0\0", *b"00\0"] {
            assert_eq!(Arch(odd).name(), "unknown");
        }
    }

    #[test]
    fn codes_survive_a_round_trip() {
        for kind in DataType::KNOWN {
            assert_eq!(DataType::from_code(kind.code()), *kind);
        }
        assert_eq!(DataType::from_code(7).code(), 7);
        assert_eq!(DataType::from_code(7).name(), "Unknown");
    }

    #[test]
    fn group_numbers_stay_below_the_mask() {
        assert_eq!(GroupId::new(MAX_GROUP).map(GroupId::get), Some(MAX_GROUP));
        assert_eq!(GroupId::new(MAX_GROUP + 1), None);
        assert_eq!(GroupId::new(0), None);
    }
}
