//! `sif add`: a new object.

use super::super::{self as cli, Cause, Error, go, usage};
use super::{Failure, endangered_by_new, id_list};
use crate::digest::decode_hex;
use crate::disk::sif_file::Source;
use crate::sif::edit::{Content, Edit, NewObject, default_alignment};
use crate::sif::types::{Arch, DataType, FsType, PartType, SbomFormat, SignatureHash};
use crate::sif::{Extra, GroupId, Image, Link, ObjectId};
use crate::ui::Ui;
use std::ffi::OsString;
use std::path::Path;

/// Add data object
///
/// The object gets the first free slot, its data goes behind all other data. A
/// full table grows. Without --groupid the object is in no group: such an
/// object can never be signed, and 'verify' refuses an image that has one,
/// unless it is a signature.
#[derive(clap::Args)]
#[command(
    override_usage = "sigsif sif add [options] <sif_path> <object_path>",
    after_help = "Examples:\n  \
                  $ sigsif sif add --datatype 6 --groupid 1 --filename labels.json \\\n      \
                  image.sif labels.json\n  \
                  $ sigsif sif add --datatype 4 --parttype 2 --partfs 1 \\\n      \
                  --partarch 2 --groupid 1 image.sif root.squashfs\n  \
                  $ curl -s https://example.org/sbom | sigsif sif add --datatype 9 \\\n      \
                  --sbomformat spdx-json --groupid 1 image.sif -"
)]
pub(super) struct Args {
    /// the type of data to add
    /// [NEEDED, no default]:
    ///   1-Deffile,   2-EnvVar,      3-Labels,
    ///   4-Partition, 5-Signature,   6-GenericJSON,
    ///   7-Generic,   8-CryptoMessage, 9-SBOM,
    ///   10-OCI.RootIndex, 11-OCI.Blob
    #[arg(long, value_name = "int", value_parser = go::int, allow_hyphen_values = true, verbatim_doc_comment)]
    datatype: Option<i64>,
    /// the type of partition (with --datatype 4-Partition)
    /// [NEEDED, no default]:
    ///   1-System, 2-PrimSys, 3-Data, 4-Overlay
    #[arg(long, value_name = "int32", value_parser = go::int32, allow_hyphen_values = true, verbatim_doc_comment)]
    parttype: Option<i32>,
    /// the filesystem used (with --datatype 4-Partition)
    /// [NEEDED, no default]:
    ///   1-Squash, 2-Ext3, 3-ImmuObj, 4-Raw,
    ///   5-EncryptedSquash, 6-GocryptfsSquash
    #[arg(long, value_name = "int32", value_parser = go::int32, allow_hyphen_values = true, verbatim_doc_comment)]
    partfs: Option<i32>,
    /// the main architecture used (with --datatype 4-Partition)
    /// [NEEDED, no default]:
    ///   1-386,      2-amd64,   3-arm,      4-arm64,    5-ppc64,
    ///   6-ppc64le,  7-mips,    8-mipsle,   9-mips64,  10-mips64le,
    ///   11-s390x,  12-riscv64, 13-loong64
    #[arg(long, value_name = "int32", value_parser = go::int32, allow_hyphen_values = true, verbatim_doc_comment)]
    partarch: Option<i32>,
    /// the signature hash used (with --datatype 5-Signature)
    /// [NEEDED, no default]:
    ///   1-SHA256, 2-SHA384, 3-SHA512, 4-BLAKE2S, 5-BLAKE2B
    #[arg(long, value_name = "int32", value_parser = go::int32, allow_hyphen_values = true, verbatim_doc_comment)]
    signhash: Option<i32>,
    /// the entity that signs (with --datatype 5-Signature)
    /// [NEEDED, no default]: 40 digits of a fingerprint
    #[arg(
        long,
        value_name = "string",
        allow_hyphen_values = true,
        verbatim_doc_comment
    )]
    signentity: Option<String>,
    /// the SBOM format (with --datatype 9-SBOM)
    /// [NEEDED, no default]:
    ///   cyclonedx-json, cyclonedx-xml, github-json, spdx-json,
    ///   spdx-rdf, spdx-tag-value, spdx-yaml, syft-json
    #[arg(
        long,
        value_name = "string",
        allow_hyphen_values = true,
        verbatim_doc_comment
    )]
    sbomformat: Option<String>,
    /// group of the object, 1 to 268435455 [default: 0, no group]
    #[arg(long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    groupid: Option<u32>,
    /// object that it is linked to, or 4026531840 + N for group N [default: no link]
    #[arg(long, value_name = "uint32", value_parser = go::uint32, allow_hyphen_values = true)]
    link: Option<u32>,
    /// its position is a multiple of this [default: 4096 for partitions, else none]
    #[arg(long, value_name = "int", value_parser = go::int, allow_hyphen_values = true)]
    alignment: Option<i64>,
    /// name that is stored with it [default: none]
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    filename: Option<OsString>,
    /// fail at once if another program is changing the image
    #[arg(long)]
    no_wait: bool,
    /// path of the image, and of the data: a file, a pipe, or - for standard input
    #[arg(value_name = "sif_path> <object_path")]
    args: Vec<OsString>,
}

const PATH: [&str; 2] = ["sif", "add"];

/// The four top bits of a link that names a group.
const GROUP_LINK: u32 = 0xf000_0000;

pub(super) fn run(ui: &Ui, args: &Args) -> Result<(), Error> {
    usage::exactly(&PATH, 2, &args.args)?;
    let now = cli::signing_time()?;
    let [image, object] = args.args.as_slice() else {
        return Ok(());
    };
    add(ui, args, Path::new(image), Path::new(object), now)
        .map_err(|cause| Failure::Cause(cause).told(&PATH))
}

fn add(ui: &Ui, args: &Args, path: &Path, data: &Path, now: i64) -> Result<(), Cause> {
    let data_type = data_type(args.datatype)?;
    let mut source = match data == Path::new("-") {
        true => Source::stdin()?,
        false => Source::open(data)?,
    };
    let extra = extra(args, data_type)?;
    let file = cli::lock(ui, path, args.no_wait)?;
    let (patch, warning) = {
        let image = file.image()?;
        let is_blob = matches!(data_type, DataType::OciRootIndex | DataType::OciBlob);
        let mut object = NewObject {
            group: group(args.groupid)?,
            link: link(args.link)?,
            alignment: alignment(args.alignment, data_type),
            name: args.filename.as_ref().map_or_else(Vec::new, name_bytes),
            extra: known_arch(extra)?,
            content: Content::Spooled {
                len: source.len().unwrap_or_default(),
            },
            ..NewObject::new(data_type, Content::Bytes(Vec::new()))
        };
        let mut edit = Edit::new(&image, now);
        // All that can be wrong is wrong before a byte is written.
        edit.clone().add(object.clone())?;
        let at = edit.next_offset(object.alignment)?;
        let spooled = {
            let mut progress = ui.progress("Adding", source.len());
            file.spool(at, &mut source, is_blob, &mut |bytes| progress.add(bytes))?
        };
        object.content = Content::Spooled { len: spooled.len };
        if let Some(digest) = spooled.digest {
            object.extra = Extra::OciDigest(digest);
        }
        let warning = warning(&image, &object);
        edit.add(object)?;
        (edit.plan()?, warning)
    };
    cli::apply(ui, path, file, &patch)?;
    if let Some(warning) = warning {
        ui.warning(warning);
    }
    Ok(())
}

/// What the new object means for signatures.
fn warning(image: &Image<'_>, object: &NewObject) -> Option<String> {
    match object.group {
        _ if object.data_type == DataType::Signature => None,
        None => Some(
            "The new object is in no group (see --groupid): no signature can cover it, and 'verify' refuses an image with such an object".to_owned(),
        ),
        Some(group) => {
            let signatures = endangered_by_new(image, group);
            (!signatures.is_empty()).then(|| {
                format!(
                    "Group {group} was signed before: {} not cover the new object, so 'verify' refuses the group; to sign it anew, delete them first",
                    id_list("signature", &signatures, "does", "do")
                )
            })
        }
    }
}

fn data_type(number: Option<i64>) -> Result<DataType, Cause> {
    let number = number.and_then(|n| usize::try_from(n).ok());
    number
        .and_then(|n| DataType::KNOWN.get(n.checked_sub(1)?))
        .copied()
        .ok_or_else(|| Cause::plain("-datatype flag is required with a valid range"))
}

/// The extra field that the flags describe; flags of other types are passed over.
fn extra(args: &Args, data_type: DataType) -> Result<Extra, Cause> {
    match data_type {
        DataType::Partition => partition(args),
        DataType::Signature => signature(args),
        DataType::Sbom => sbom(args.sbomformat.as_deref().unwrap_or_default()),
        _ => Ok(Extra::None),
    }
}

fn partition(args: &Args) -> Result<Extra, Cause> {
    let number = |flag: Option<i32>| flag.filter(|n| *n != 0);
    let (Some(fs), Some(part), Some(arch)) = (
        number(args.partfs),
        number(args.parttype),
        number(args.partarch),
    ) else {
        return Err(Cause::plain(
            "with partition datatype, --partfs, --parttype and --partarch must be passed",
        ));
    };
    let fs = match FsType::from_code(fs) {
        FsType::Unknown(code) => {
            return Err(Cause::plain(format!("invalid filesystem type: {code}")));
        }
        known => known,
    };
    let part = match PartType::from_code(part) {
        PartType::Unknown(code) => {
            return Err(Cause::plain(format!("invalid partition type: {code}")));
        }
        known => known,
    };
    let arch = u8::try_from(arch).ok().and_then(Arch::from_number);
    let arch = arch.unwrap_or(Arch::UNKNOWN);
    Ok(Extra::Partition { fs, part, arch })
}

/// The originals look at the architecture after the image was loaded.
fn known_arch(extra: Extra) -> Result<Extra, Cause> {
    match &extra {
        Extra::Partition { arch, .. } if *arch == Arch::UNKNOWN => {
            Err(Cause::plain("unknown architecture: unknown"))
        }
        _ => Ok(extra),
    }
}

fn signature(args: &Args) -> Result<Extra, Cause> {
    let entity = decode_hex(args.signentity.as_deref().unwrap_or_default()).map_err(|error| {
        Cause::plain(format!(
            "failed to decode signing entity fingerprint: {error}"
        ))
    })?;
    let hash = match SignatureHash::from_code(args.signhash.unwrap_or_default()) {
        SignatureHash::Unknown(code) => {
            return Err(Cause::plain(format!("invalid hash type: {code}")));
        }
        known => known,
    };
    let len = entity.len();
    let fingerprint = entity.try_into().map_err(|_| {
        Cause::plain(format!(
            "invalid signing entity fingerprint length: got {len}, want 20"
        ))
    })?;
    Ok(Extra::Signature { hash, fingerprint })
}

fn sbom(name: &str) -> Result<Extra, Cause> {
    if name.is_empty() {
        return Err(Cause::plain(
            "with SBOM datatype, --sbomformat must be passed",
        ));
    }
    let name = if name == "github" {
        "github-json"
    } else {
        name
    };
    let format = SbomFormat::KNOWN.iter().find(|known| known.name() == name);
    match format {
        Some(format) => Ok(Extra::Sbom(*format)),
        None => Err(Cause::plain(format!("invalid SBOM format: {name}"))),
    }
}

fn group(number: Option<u32>) -> Result<Option<GroupId>, Cause> {
    match number.unwrap_or_default() {
        0 => Ok(None),
        some => GroupId::new(some).map(Some).ok_or_else(|| Cause {
            text: "invalid group ID".to_owned(),
            detail: Some(format!("group {some} is above 268435455, the highest one")),
        }),
    }
}

fn link(number: Option<u32>) -> Result<Link, Cause> {
    let Some(number) = number else {
        return Ok(Link::None);
    };
    let low = number & !GROUP_LINK;
    let link = match number & GROUP_LINK {
        0 => ObjectId::new(low).map(Link::Object),
        GROUP_LINK => GroupId::new(low).map(Link::Group),
        _ => None,
    };
    link.ok_or_else(|| Cause {
        text: "invalid object ID".to_owned(),
        detail: (number != 0).then(|| {
            "links to objects go up to 268435455, those to group N are 4026531840 + N".to_owned()
        }),
    })
}

fn alignment(flag: Option<i64>, data_type: DataType) -> u64 {
    match flag {
        Some(bytes) => u64::try_from(bytes).unwrap_or_default(),
        None => default_alignment(data_type),
    }
}

fn name_bytes(name: &OsString) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str()).to_vec()
}
