//! What the prefilter clears is clean: libclamav is asked, with signatures each of which is tricky in its own way.
//!
//! The input is a message.

use std::cell::RefCell;

use scanlib::Engine;
use scanlib::prefilter::Scratch;

use crate::verdict;

/// Ends that libclamav does not look at, places, sizes, white space and bytes that normalisation loses, words.
const BODY: &str = "\
Slack.Tail:0:*:736c61636b(61|62636465)7a7a
Slack.Head:0:*:(6869|64656667)??4a4b4c4d
Slack.Gap:0:*:676170(64|65666768){3}6b6c6d6e6f
Raw.Upper:0:*:5261774e6565646c65
Raw.Tabs:0:*:7461620909746162
Raw.Lines:0:*:0d0a0d0a
Raw.Bytes:0:*:c3a96c69636f
Text.Only:7:*:746578746f6e6c79
At.Place:0:5,3:706c616365
At.End:0:EOF-6:656e6465
End.Text:7:EOF-400:7175697a6c6c6f77
A.Word:7:*:(B)776f7264(W)
Parts:0:*:6f6e65{-4}74776f*7468726565
Nibbles:0:*:6?69626b6c{1}7?
";

/// Counts, operators without ranks, leaves that are true without a match, sizes, triggers, comparisons.
const LOGICAL: &str = "\
Right;Engine:51-255,Target:0;0|1&2;616c706861;627261766f;636861726c6965
Left;Engine:51-255,Target:0;(0&1|2)&3;64656c7461;6563686f;666f78;676f6c66
Different;Engine:51-255,Target:7;(0|1<1|2)>1,2&3;686f74656c;696e646961;6a756c696574;6b696c6f
Counted;Engine:51-255,Target:0;(0|1)=3;6c696d61::i;6d696b65
Sized;Engine:51-255,Target:0,FileSize:40-44;0;6e6f76656d626572
Nocase;Engine:51-255,Target:7;0&1;4f53434152::i;50415041::f
Regex;Engine:51-255,Target:0;1;717565626563;0=1/r[0-9]{2,4}z/
Compare;Engine:51-255,Target:0;1;73697a653d;0(>>5#db2#>7)
Empty;Engine:51-255,Target:0,FileSize:100-120;0=0;73696572726174616e676f
Fields;Engine:51-255,Target:0;0;556e69466f726d::i*766963::i*7768::i
";

const YARA: &str = r#"
rule SomeOf { strings: $a = "whiskey" nocase $b = "xray" fullword $c = { 79 61 6e ?? 65 65 } condition: 2 of them }
rule Without { strings: $a = "zulu" $b = "Zulu" condition: $a and not $b }
rule Expression { strings: $a = /ye(s|ah)+ no?pe/ condition: #a > 1 }
"#;

/// Of "known", which is too short to be looked at unless it is a normalised text; of "known text"; and in any size of "of any size".
const HASHES: &str = "\
7117fff2d0fd294462b3c802b7cb8753579f23f3946b99cf55f38e873f013f10:5:Hash.Short
2f23e7a98f07e0773d677ef3214543cdb37540d2bad3b0a540604febbabb573a:10:Hash.Sized
b49d4fda3ca455f3104494832a7d2749e5d60c7cf29d4c6a15718a9bd45914d2:*:Hash.Any:73
";

thread_local! {
    static LOADED: (Engine, RefCell<Scratch>) = (load(), RefCell::default());
}

fn load() -> Engine {
    // A text of any other type than plain text is reported: nothing of that kind may be cleared.
    let others: String = (1..=14)
        .filter(|target| ![7, 8].contains(target))
        .map(|target| {
            format!("Type{target};Engine:51-255,Target:{target};0=0;717171717171717171\n")
        })
        .collect();
    let logical = format!("{LOGICAL}{others}");
    let files = [
        ("a.ndb".to_owned(), BODY.as_bytes()),
        ("a.ldb".to_owned(), logical.as_bytes()),
        ("a.yar".to_owned(), YARA.as_bytes()),
        ("a.hsb".to_owned(), HASHES.as_bytes()),
    ];
    let engine = match verdict::engine(&files) {
        Ok(engine) => engine,
        Err(error) => panic!("{error}: {:?}", error.library_log()),
    };
    assert_eq!(engine.prefilter().off(), None);
    engine
}

/// Panics if libclamav finds something in a message that was cleared.
pub fn check(message: &[u8]) {
    LOADED.with(|(engine, scratch)| {
        verdict::is_sound(engine, message, &mut scratch.borrow_mut());
    });
}
