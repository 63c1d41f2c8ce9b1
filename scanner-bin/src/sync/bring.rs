//! One run: each file is asked for, examined, and given its name.

use std::fmt;
use std::io;
use std::path::Path;

use scanlib::Library;
use scanlib::database::{Container, has_digital_signature};

use super::answer::Validators;
use super::check::{self, CheckError};
use super::fetch::{self, Got};
use super::home::{Home, Record, Refusal};
use super::patience::Patience;
use super::row::{Row, What};
use super::trouble::Trouble;
use super::{Wanted, name};
use crate::generation::snapshot::digest;

/// No detached signature has more bytes.
const LONGEST_SIGN: u64 = 64 << 10;

/// What is there under a name.
struct Local {
    sha256: String,
    bytes: u64,
    container: Option<Container>,
}

impl Local {
    fn look(path: &Path) -> Result<Option<Local>, String> {
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let (bytes, sha256) = digest(path, None).map_err(|error| error.to_string())?;
        let container = Container::read(path).map_err(|error| error.to_string())?;
        Ok(Some(Local {
            sha256,
            bytes,
            container,
        }))
    }
}

/// Why a file is not updated.
enum Not {
    /// There is nothing newer.
    New,
    /// It is not taken.
    Good(Refusal),
    /// It could not be had.
    Possible(String),
}

impl From<io::Error> for Not {
    fn from(error: io::Error) -> Not {
        Not::Possible(Trouble::Disk(error).to_string())
    }
}

/// What came of a file, in the directory for files on their way.
struct Came {
    sha256: String,
    validators: Validators,
    pieced: bool,
}

/// One run.
pub(super) struct Sync<'a> {
    wanted: &'a Wanted,
    home: Home,
    library: Library,
    say: &'a dyn Fn(fmt::Arguments<'_>),
    /// Why nothing more is asked for.
    stopped: Option<String>,
    /// Bytes that came for the file at hand.
    received: u64,
}

impl<'a> Sync<'a> {
    /// With a directory that is taken. `say` is told what takes time.
    pub(super) fn new(
        wanted: &'a Wanted,
        home: Home,
        library: Library,
        say: &'a dyn Fn(fmt::Arguments<'_>),
    ) -> Sync<'a> {
        Sync {
            wanted,
            home,
            library,
            say,
            stopped: None,
            received: 0,
        }
    }

    /// Brings each file. One that fails keeps no other from being brought, unless the mirror answers nobody.
    pub(super) fn run(mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for name in &self.wanted.files {
            self.file(name, &mut rows);
        }
        rows
    }

    fn file(&mut self, name: &str, rows: &mut Vec<Row>) {
        self.received = 0;
        let path = self.home.path(name);
        let local = match Local::look(&path) {
            Ok(local) => local,
            Err(error) => {
                rows.push(row(name, What::Failed, None, Some(error), 0));
                return;
            }
        };
        let before = version(&local);
        let mut sign = None;
        let brought = self.bring(name, &local, &mut sign);
        let (what, why, now) = match brought {
            Ok(()) => match Local::look(&path) {
                Ok(now) => (What::Updated, None, now),
                Err(error) => (What::Failed, Some(error), local),
            },
            Err(Not::New) => {
                if let (true, Some(version)) = (has_digital_signature(&path), before) {
                    sign = self.lone_sign(name, version);
                }
                (What::Current, None, local)
            }
            Err(Not::Good(refusal)) => (What::Refused, Some(refusal.why), local),
            Err(Not::Possible(why)) => (What::Failed, Some(why), local),
        };
        let mut of = row(name, what, now, why, self.received);
        of.before = before;
        rows.push(of);
        rows.extend(sign);
    }

    /// Brings a file, and what goes with it, unless there is a reason not to.
    fn bring(
        &mut self,
        name: &str,
        local: &Option<Local>,
        sign: &mut Option<Row>,
    ) -> Result<(), Not> {
        let path = self.home.incoming(name);
        let is_signed = has_digital_signature(&path);
        if let (Some(digests), None, false) = (&self.wanted.digests, self.demanded(name), is_signed)
        {
            let why = format!(
                "it carries no digital signature, and its digest is not in {} (--sha256); add it there, as sha256sum writes it, once \
                 the file is known to be good",
                digests.list().display()
            );
            return Err(self.not(name, CheckError::Bad(why), local, None));
        }
        // Only what proves to be whole is put together from pieces.
        let came = self.fetch(name, local, is_signed)?;
        let taken = match self.take(name, local, &came, sign) {
            Err(Not::Good(refusal)) if came.pieced => {
                let why = &refusal.why;
                (self.say)(format_args!(
                    "{name}: {why}; it was put together from two downloads, so all of it is fetched once more"
                ));
                self.home.discard(name)?;
                let came = self.fetch(name, local, false)?;
                self.take(name, local, &came, sign)
                    .map_err(|not| (not, came))
            }
            taken => taken.map_err(|not| (not, came)),
        };
        if let Err((not, came)) = taken {
            self.home.discard(name)?;
            if let Not::Good(refusal) = &not {
                self.remember(name, &came, Some(refusal.clone()))?;
            } else if matches!(not, Not::New) {
                self.remember(name, &came, None)?;
            }
            return Err(not);
        }
        Ok(())
    }

    /// Examines what came, and gives it its name.
    fn take(
        &mut self,
        name: &str,
        local: &Option<Local>,
        came: &Came,
        sign: &mut Option<Row>,
    ) -> Result<(), Not> {
        if let Some(demanded) = self.demanded(name)
            && demanded != came.sha256
        {
            let why = format!(
                "its SHA-256 is {} where {demanded} is demanded (--sha256): the mirror has another file, or the list is of another \
                 version of it",
                came.sha256
            );
            return Err(self.not(name, CheckError::Bad(why), local, None));
        }
        if local
            .as_ref()
            .is_some_and(|local| local.sha256 == came.sha256)
            && !self.wanted.force
        {
            return Err(Not::New);
        }
        let path = self.home.incoming(name);
        let container =
            check::container(&path).map_err(|error| self.not(name, error, local, None))?;
        let offered = container.as_ref().map(|container| container.version);
        if let (Some(offered), Some(here)) = (offered, version(local))
            && offered < here
            && !self.wanted.allow_downgrade
        {
            let why = format!(
                "version {offered} is older than version {here}, which is here; --allow-downgrade takes it all the same"
            );
            return Err(self.not(name, CheckError::Bad(why), local, Some(offered)));
        }
        let mut beside = None;
        if let (true, Some(version)) = (has_digital_signature(&path), offered) {
            beside = self.sign(name, version, sign)?;
        }
        let verified = check::verify(self.library, &path);
        verified.map_err(|error| self.not(name, error, local, offered))?;
        // First, as libclamav may want it at once; the others last, as it may still want them for the old container.
        if let Some((sign, came)) = &beside {
            self.home.publish(sign)?;
            self.remember(sign, came, None)?;
        }
        self.home.publish(name)?;
        self.remember(name, came, None)?;
        if let Some(version) = offered {
            self.home
                .remove_other_signs(name, &name::sign(name, version))?;
        }
        Ok(())
    }

    /// The detached signature of a container that is current.
    fn lone_sign(&mut self, container: &str, version: u32) -> Option<Row> {
        let mut row = None;
        let taken = match self.sign(container, version, &mut row) {
            Ok(Some((name, came))) => self
                .home
                .publish(&name)
                .and_then(|()| self.remember(&name, &came, None)),
            _ => Ok(()),
        };
        if let (Err(error), Some(row)) = (taken, &mut row) {
            row.what = What::Failed;
            row.why = Some(Trouble::Disk(error).to_string());
        }
        row
    }

    /// Fetches the detached signature of a version of a container, if the mirror has one that is new. What became of it is in `row`,
    /// if there is anything to tell.
    fn sign(
        &mut self,
        container: &str,
        version: u32,
        row: &mut Option<Row>,
    ) -> Result<Option<(String, Came)>, Not> {
        let name = name::sign(container, version);
        let path = self.home.incoming(&name);
        let local = Local::look(&self.home.path(&name)).map_err(Not::Possible)?;
        let fetched = self.fetch(&name, &local, false).and_then(|came| {
            let is_same = |local: &Local| local.sha256 == came.sha256;
            if local.as_ref().is_some_and(is_same) {
                self.remember(&name, &came, None)?;
                return Err(Not::New);
            }
            match check::sign(&path) {
                Ok(()) => Ok(came),
                Err(error) => {
                    let not = self.not(&name, error, &local, None);
                    if let Not::Good(refusal) = &not {
                        self.remember(&name, &came, Some(refusal.clone()))?;
                    }
                    Err(not)
                }
            }
        });
        let told = |what, why| {
            let bytes = self
                .home
                .path(&name)
                .metadata()
                .ok()
                .map(|found| found.len());
            Some(Row {
                name: name.clone(),
                what,
                why,
                before: None,
                container: None,
                bytes,
                received: 0,
            })
        };
        match fetched {
            Ok(came) => {
                *row = told(What::Updated, None);
                Ok(Some((name, came)))
            }
            Err(not) => {
                self.home.discard(&name)?;
                match not {
                    Not::New if local.is_some() => *row = told(What::Current, None),
                    // Mirrors of before 1.5 have none.
                    Not::New => {}
                    Not::Good(refusal) => *row = told(What::Refused, Some(refusal.why)),
                    Not::Possible(why) => {
                        let why = format!("its detached signature cannot be had: {why}");
                        *row = told(What::Failed, Some(why.clone()));
                        return Err(Not::Possible(why));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Fetches what the mirror has, unless that is known.
    fn fetch(
        &mut self,
        name: &str,
        local: &Option<Local>,
        is_resumable: bool,
    ) -> Result<Came, Not> {
        if let Some(why) = &self.stopped {
            return Err(Not::Possible(format!("not asked for, as {why}")));
        }
        let url = self.wanted.mirror.url(name);
        let (unless, refusal) = self.known(name, &url, local);
        let mut part = self.home.part(name, is_resumable)?;
        let is_sign = name.ends_with(".sign");
        let mut manner = self.wanted.manner.clone();
        if is_sign {
            manner.max_file_bytes = LONGEST_SIGN;
        }
        let mut patience = Patience::default();
        let got = loop {
            let got = fetch::get(&self.wanted.mirror, &url, &unless, &mut part, &manner);
            let Err(trouble) = got else { break got };
            match patience.wait(&trouble, part.bytes()) {
                None => break Err(trouble),
                Some(wait) => {
                    (self.say)(format_args!(
                        "{name}: {trouble}; asked for again in {:.1} s",
                        wait.as_secs_f64()
                    ));
                    std::thread::sleep(wait);
                }
            }
        };
        self.received += part.received();
        match got {
            Ok(Got::Unchanged) => {
                drop(part);
                self.home.discard(name)?;
                match refusal {
                    None => Err(Not::New),
                    Some(mut refusal) => {
                        refusal.why = format!(
                            "{}; it was refused before, and --force looks again",
                            refusal.why
                        );
                        Err(Not::Good(refusal))
                    }
                }
            }
            Ok(Got::Whole { validators, pieced }) => {
                let path = part.finish()?;
                let digest = digest(&path, None);
                let (_, sha256) = digest.map_err(|error| Not::Possible(error.to_string()))?;
                Ok(Came {
                    sha256,
                    validators,
                    pieced,
                })
            }
            Err(Trouble::Missing) if is_sign => {
                self.home.discard(name)?;
                Err(Not::New)
            }
            Err(trouble) => {
                if part.begun(&url).is_none() {
                    self.home.discard(name)?;
                }
                if trouble.is_for_all() {
                    self.stopped = Some(format!("of {name} {trouble}"));
                }
                let tries = patience.tries();
                Err(Not::Possible(match tries {
                    0 | 1 => trouble.to_string(),
                    _ => format!("{trouble} (tried {tries} times)"),
                }))
            }
        }
    }

    /// What the mirror need not send, and why that was refused, if it was.
    fn known(&self, name: &str, url: &str, local: &Option<Local>) -> (Validators, Option<Refusal>) {
        let nothing = (Validators::default(), None);
        let here = local.as_ref().map(|local| &local.sha256);
        let Some(record) = self.home.record(name) else {
            return nothing;
        };
        if self.wanted.force || record.url != url {
            return nothing;
        }
        let demanded = self.demanded(name);
        match &record.refused {
            // What is here may be another file than the one that is demanded now.
            None if here == Some(&record.sha256)
                && demanded.is_none_or(|demanded| demanded == record.sha256) =>
            {
                (record.validators.clone(), None)
            }
            Some(refusal)
                if refusal.beside.as_ref() == here
                    && refusal.demanded.as_deref() == demanded
                    && refusal.library == self.library.version().text
                    && !self.wanted.allow_downgrade =>
            {
                (record.validators.clone(), Some(refusal.clone()))
            }
            _ => nothing,
        }
    }

    /// The digest that a file must have.
    fn demanded(&self, name: &str) -> Option<&str> {
        self.wanted.digests.as_ref()?.of(name)
    }

    fn not(
        &self,
        name: &str,
        error: CheckError,
        local: &Option<Local>,
        version: Option<u32>,
    ) -> Not {
        match error {
            CheckError::Unknown(why) => Not::Possible(why),
            CheckError::Bad(why) => Not::Good(Refusal {
                why,
                version,
                library: self.library.version().text,
                beside: local.as_ref().map(|local| local.sha256.clone()),
                demanded: self.demanded(name).map(str::to_owned),
            }),
        }
    }

    fn remember(&mut self, name: &str, came: &Came, refused: Option<Refusal>) -> io::Result<()> {
        let record = Record {
            url: self.wanted.mirror.url(name),
            validators: came.validators.clone(),
            sha256: came.sha256.clone(),
            refused,
        };
        self.home.remember(name, record)
    }
}

fn version(local: &Option<Local>) -> Option<u32> {
    Some(local.as_ref()?.container.as_ref()?.version)
}

fn row(name: &str, what: What, now: Option<Local>, why: Option<String>, received: u64) -> Row {
    Row {
        name: name.to_owned(),
        what,
        why,
        before: None,
        bytes: now.as_ref().map(|local| local.bytes),
        container: now.and_then(|local| local.container),
        received,
    }
}
