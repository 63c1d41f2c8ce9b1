//! Signature files: libclamav reads them as the prefilter does.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use clamav_prefilter::format::Format;
use clamav_prefilter::formats::lines::{LONG, SHORT};
use clamav_prefilter::formats::{body, visit};
use flate2::Compression;
use flate2::write::GzEncoder;
use scanlib::prefilter::Prefilter;
use sha2::{Digest as _, Sha256};

use super::judge;

const NEEDLE: &[u8] = b"....needle......";
const MESSAGE: &[u8] = b"a message whose hash is known";

fn hex(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// A file of the format that finds "needle".
fn sample(format: Format) -> Option<&'static [u8]> {
    match format {
        Format::Body | Format::UnnamedBody => Some(b"Judge.Body:0:*:6e6565646c65\n"),
        Format::Plain => Some(b"Judge.Plain=6e6565646c65\n"),
        Format::Logical => Some(b"Judge.Logical;Engine:51-255,Target:0;0;6e6565646c65\n"),
        Format::Yara => Some(b"rule Judge { strings: $a = \"needle\" condition: $a }\n"),
        _ => None,
    }
}

#[test]
fn libclamav_reads_the_format_that_the_ending_says() {
    for (ending, format) in Format::endings() {
        let Some(content) = sample(format) else {
            continue;
        };
        let name = format!("a.other{}", ending.to_uppercase());
        assert_eq!(Format::of(name.as_bytes()), format);
        assert!(judge::finds(&name, content, NEEDLE), "{name}");
    }
}

#[test]
fn irrelevant_files_make_libclamav_report_nothing() {
    for (ending, format) in Format::endings() {
        if matches!(
            format,
            Format::ExecutablePart
                | Format::Icon
                | Format::IgnoreList
                | Format::Irrelevant(_)
                | Format::NotLoaded
        ) {
            let name = format!("a{ending}");
            for format in [Format::Body, Format::Plain, Format::Logical, Format::Yara] {
                let content = sample(format).unwrap();
                assert!(!judge::detects(&[(&name, content)], NEEDLE), "{name}");
            }
        }
    }
}

#[test]
fn what_libclamav_finds_at_an_offset_is_not_cleared() {
    let offsets = [
        "*",
        "",
        "0",
        "4",
        "3",
        "5",
        "004",
        "0,4",
        "0,3",
        "2,2",
        "2,1",
        "2,",
        ",4",
        ",3",
        "4,0",
        "EOF-12",
        "EOF-11",
        "EOF-13,1",
        "EOF-16,4",
        "EOF-16,3",
        "EOF-",
        "EOF-0",
        "$1$",
        "$4$",
        "$1$,4",
        "$1",
        "1$",
        "EP+0",
        "EP+4",
        "EP-4",
        "S0+4",
        "S0",
        "SE4",
        "SL+4",
        "S+4",
        "VI",
        "VI4",
        "eof-12",
        "4 ",
        " 4",
        "+4",
        "-4",
        "4x",
        "4,,0",
        "4,x",
        "*,4",
        "0x4",
        "4294967300",
        "4294967295",
        "4294967294",
        "0000000000004",
        "4,4294967295",
        "EOF-4294967308",
    ];
    for target in ["0", "7"] {
        let (mut found, mut cleared) = (0, 0);
        for text in offsets {
            let line = format!("Judge.A:{target}:{text}:6e6565646c65\n");
            found += usize::from(judge::finds("a.ndb", line.as_bytes(), NEEDLE));
            cleared += usize::from(judge::clears("a.ndb", line.as_bytes(), NEEDLE));
        }
        assert!(found > 8, "{found}");
        assert!(cleared > 0, "{cleared}");
    }
}

#[test]
fn libclamav_reads_targets_alike() {
    let targets = [
        "0",
        "*",
        "",
        "00",
        "7",
        "007",
        "1",
        "14",
        "15",
        "4294967296",
        "4294967303",
        "-0",
        "0x7",
        " 0",
    ];
    for target in targets {
        let line = format!("Judge.A:{target}:*:6e6565646c65\n");
        let finds = judge::finds("a.ndb", line.as_bytes(), NEEDLE);
        if let Ok(body) = body::parse(line.trim_end().as_bytes()) {
            assert_eq!(finds, matches!(body.target, 0 | 7), "{target:?}");
        } else {
            assert_ne!(target, "0");
        }
    }
}

#[test]
fn libclamav_reads_plain_lines_alike() {
    let needle = b"..needle..";
    assert!(judge::finds("a.db", b"A=6e6565646c65\r\n", needle));
    let passed_over = b"A==6e6565646c65\nB=6e6565646c66\n";
    assert!(judge::engine(&[("a.db", passed_over)]).is_some());
    assert!(!judge::detects(&[("a.db", passed_over)], needle));
    assert!(judge::engine(&[("a.db", b"A:0:*:6e6565646c65\n")]).is_none());
}

#[test]
fn of_more_fields_than_there_are_the_first_is_the_pattern() {
    let (upper, bravo) = (hex("ALPHA"), hex("bravo"));
    for sub in [
        format!("{upper}::i*{bravo}::i*{bravo}::i"),
        format!("{upper}:::{bravo}:i"),
        format!("{upper}:{bravo}::i:i:i"),
    ] {
        let line = format!("A;Engine:51-255,Target:0;0;{sub}");
        for (message, is_found) in [
            (&b"an ALPHA, and none else"[..], true),
            (b"an alpha, a bravo bravo", false),
            (b"nothing of it, a bravo bravo", false),
        ] {
            assert_eq!(
                judge::finds("a.ldb", line.as_bytes(), message),
                is_found,
                "{line}"
            );
        }
        assert!(judge::clears(
            "a.ldb",
            line.as_bytes(),
            b"nothing of it, a bravo bravo"
        ));
    }
}

fn xml(head: &str, content: &str) -> String {
    format!(
        "{head}<ioc><definition><Indicator operator=\"OR\"><IndicatorItem>\
         <Context document=\"FileItem\" search=\"FileItem/Sha256sum\" type=\"mir\"/>\
         {content}</IndicatorItem></Indicator></definition></ioc>\n"
    )
}

fn utf16(text: &str) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xfe];
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    bytes
}

#[test]
fn what_libclamav_finds_in_openioc_is_not_cleared() {
    let hash = sha256(MESSAGE);
    let upper = hash.to_uppercase();
    let (left, right) = hash.split_at(30);
    let item = |text: &str| format!("<Content type=\"string\">{text}</Content>");
    let decl = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n";
    let utf7 = "<?xml version=\"1.0\" encoding=\"UTF-7\"?>\n";
    let entity = format!("<!DOCTYPE ioc [<!ENTITY h \"{left}\">]>\n");
    let reference = format!("&#x{:x};{}", hash.as_bytes()[0], &hash[1..]);
    let spaces = " ".repeat(5000);
    let shifted: String = hash
        .bytes()
        .map(|byte| format!("+{}-", STANDARD_NO_PAD.encode([0, byte])))
        .collect();
    let (mut found, mut understood) = (0, 0);
    for file in [
        xml(decl, &item(&hash)).into_bytes(),
        xml("", &item(&hash)).into_bytes(),
        xml("\u{feff}", &item(&hash)).into_bytes(),
        xml(decl, &item(&upper)).into_bytes(),
        xml(decl, &item(&format!(" \n{hash}\t"))).into_bytes(),
        xml(decl, &item(&format!("{spaces}{hash}{spaces}"))).into_bytes(),
        xml(decl, &item(&format!("{hash}<!-- more -->0"))).into_bytes(),
        xml(decl, &item(&format!("<![CDATA[{hash}]]>"))).into_bytes(),
        xml(decl, &item(&format!("{left}<![CDATA[{right}]]>"))).into_bytes(),
        xml(decl, &item(&format!("{left}<b/>{right}"))).into_bytes(),
        xml(decl, &item(&format!("{hash}&amp;"))).into_bytes(),
        xml(decl, &item(&reference)).into_bytes(),
        xml(&entity, &item(&format!("&h;{right}"))).into_bytes(),
        xml(utf7, &item(&shifted)).into_bytes(),
        xml(&decl.replace("utf-8", "iso-8859-1"), &item(&hash)).into_bytes(),
        xml(&decl.replace("utf-8", "windows-1252"), &item(&hash)).into_bytes(),
        xml(&decl.replace('"', "'"), &item(&hash)).into_bytes(),
        utf16(&xml("", &item(&hash))),
        utf16(&xml("", &item(&hash)))[2..].to_vec(),
        xml("  ", &item(&hash)).into_bytes(),
        xml(decl, &format!("<Content type=\"sha256\">{hash}</Content>")).into_bytes(),
        xml(decl, &item(&hash))
            .replace("</ioc>", "<broken")
            .into_bytes(),
    ] {
        if judge::finds("a.ioc", &file, MESSAGE) {
            found += 1;
            let prefilter = Prefilter::unproven("a.ioc", &file);
            understood += usize::from(prefilter.off().is_none());
        }
    }
    assert!(found >= 10, "{found}");
    assert!(understood >= 8, "{understood}");
}

/// A line of this many bytes, line feed included, that finds a needle.
fn line(bytes: usize) -> Vec<u8> {
    let mut line = b"Judge.".to_vec();
    let rest = b":0:*:6e6565646c65\n";
    line.resize(bytes - rest.len(), b'n');
    line.extend(rest);
    line
}

#[test]
fn the_buffer_is_libclamav_s() {
    let finds = |content: &[u8]| judge::finds("a.ndb", content, b"a needle");
    let (fits, too_long) = (line(SHORT), line(SHORT + 1));
    assert!(finds(&fits));
    assert!(!finds(&too_long));

    // What does not fit of a comment is a signature.
    let mut comment = vec![b'#'; SHORT];
    comment.extend(line(100));
    assert!(finds(&comment));
}

#[test]
fn the_long_buffer_is_libclamav_s() {
    let logical = |bytes: usize| {
        let mut line = b"Judge.".to_vec();
        let rest = b";Engine:51-255,Target:0;0;6e6565646c65\n";
        line.resize(bytes - rest.len(), b'n');
        line.extend(rest);
        line
    };
    let finds = |content: &[u8]| judge::finds("a.ldb", content, b"a needle");
    assert!(finds(&logical(LONG)));
    assert!(!finds(&logical(LONG + 1)));
}

#[test]
fn a_nul_ends_a_line_for_libclamav() {
    let content = b"Judge.A:0:*:6e6565646c65\0junk\n";
    assert!(judge::finds("a.ndb", content, b"a needle"));
}

/// A file of types stands in for libclamav's own table: text then is what it says.
#[test]
fn libclamav_types_by_magic() {
    let mail = b"Judge.A:4:*:6e6565646c65\n";
    let message = b"..xy: z\n\nneedle needle\n";
    for (magic, offset, is_typed) in [
        ("0", "2", true),
        ("", "2", true),
        ("00", "002", true),
        ("0", "3", false),
    ] {
        let line = format!("{magic}:{offset}:7879:N:CL_TYPE_ANY:CL_TYPE_MAIL\n");
        let files: [(&str, &[u8]); 2] = [("a.ftm", line.as_bytes()), ("a.ndb", mail)];
        assert_eq!(judge::detects(&files, message), is_typed, "{line}");
        assert_eq!(
            judge::clears("a.ftm", line.as_bytes(), message),
            !is_typed,
            "{line}"
        );
    }
}

#[test]
fn what_libclamav_finds_by_its_hash_is_not_cleared() {
    let lower = sha256(MESSAGE);
    let upper = lower.to_uppercase();
    let n = MESSAGE.len();
    let mut found = 0;
    for line in [
        format!("{lower}:{n}:A"),
        format!("{upper}:{n}:A"),
        format!("{lower}:0{n}:A"),
        format!("{lower}:+{n}:A"),
        format!("{lower}: {n}:A"),
        format!("{lower}:{n} :A"),
        format!("{lower}:-{n}:A"),
        format!("{lower}:-18446744073709551587:A"),
        format!("{lower}:18446744073709551645:A"),
        format!("{lower}:4294967325:A"),
        format!("{lower}:*:A:73"),
        format!("{lower}:*:A:73:500"),
        format!("{lower}:*:A"),
        format!("{lower}:*:A:72"),
        format!("{lower}:**:A:73"),
        format!("{lower}::A"),
        format!("{lower}:0:A"),
        format!("{lower}:0:A:73"),
        format!("{lower}:{n}:A:"),
        format!("{lower}:{n}:A::9999"),
        format!("{lower}:{n}:A:73:500:"),
        format!("{lower}:{n}:A:junk:999"),
        format!("{lower}:{n}:"),
        format!(" {lower}:{n}:A"),
        format!("{lower} :{n}:A"),
        format!("0x{lower}:{n}:A"),
        format!("{}:{n}:A", &lower[..62]),
        format!("{lower}:{}:A", n + 1),
    ] {
        let file = format!("{line}\n");
        for name in ["a.hdb", "a.hsb", "a.hdu", "a.hsu"] {
            found += usize::from(judge::finds(name, file.as_bytes(), MESSAGE));
        }
    }
    assert!(found >= 24, "{found}");
    let other = format!("{lower}:{}:A\n", n + 1);
    assert!(judge::clears("a.hsb", other.as_bytes(), MESSAGE));
}

type Files = Vec<(Vec<u8>, Vec<u8>)>;

fn header() -> Vec<u8> {
    let mut header = b"ClamAV-VDB:22 Jun 2021 16-55 -0400:2:0:81:X:X:judge:1624395301".to_vec();
    header.resize(512, b' ');
    header
}

fn tar(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_old();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        builder.append(&header, &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn container(tar: &[u8], compressed: bool) -> Vec<u8> {
    let mut container = header();
    if compressed {
        let mut encoder = GzEncoder::new(&mut container, Compression::fast());
        encoder.write_all(tar).unwrap();
        encoder.finish().unwrap();
    } else {
        container.extend(tar);
    }
    container
}

/// With the list of checksums that libclamav wants to see.
fn loadable(name: &str, content: &[u8]) -> Files {
    let digest = sha256(content);
    let head = String::from_utf8(header()).unwrap();
    let info = format!("{}\n{name}:{}:{digest}\n", head.trim_end(), content.len());
    vec![
        (b"COPYING".to_vec(), b"a licence".to_vec()),
        (b"judge.info".to_vec(), info.into_bytes()),
        (name.as_bytes().to_vec(), content.to_vec()),
    ]
}

#[test]
fn containers_are_read_as_libclamav_reads_them() {
    let files = loadable("a.ndb", b"Judge.Body:0:*:6e6565646c65\n");
    let whole = tar(&files);
    let unmarked = whole[..whole.len() - 1024].to_vec();
    let trailing = [&whole[..], b"rubbish"].concat();
    let (left, right) = whole.split_at(700);
    let pieces = [
        container(left, true),
        container(right, true)[512..].to_vec(),
    ]
    .concat();
    let mut containers = vec![pieces];
    for tar in [&whole, &unmarked, &trailing] {
        containers.extend([false, true].map(|compressed| container(tar, compressed)));
    }
    for container in containers {
        assert!(judge::finds("a.cud", &container, b"a needle"));
        let mut seen = Files::new();
        visit(b"a.cud", &mut &container[..], &mut |name, _, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            seen.push((name.to_vec(), bytes));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, files);
    }
}
