//! Where files are fetched from: one origin, and a directory there.

use hyper::Uri;
use thiserror::Error;

/// The network that serves everybody. It counts requests of an address, and shuts out those that ask too much.
const PUBLIC: &str = "clamav.net";

/// Why a URL cannot be used.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum MirrorError {
    /// It is not one, or more than one needs.
    #[error("--from {url}: {why}; write it as http://mirror.example/clamav/")]
    Malformed {
        /// As it was given.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// It holds a name or a password.
    #[error(
        "--from: a name or a password in a URL is seen in the list of processes and in logs: have the mirror admit addresses, or certificates of a network of its own"
    )]
    Password,
    /// It belongs to the public network.
    #[error(
        "--from {url}: {host} is the public network, which bans addresses that ask too often, and with them all others behind the same \
         gateway: fetch there once with cvdupdate, serve its directory with a web server, and name that one (docs/databases.md, \"From a \
         private mirror\"); or say --public if this is the one machine that asks there"
    )]
    Public {
        /// As it was given.
        url: String,
        /// Its host.
        host: String,
    },
}

/// A directory on a web server.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Scheme, host and port, as they are compared.
    origin: Origin,
    /// The URL up to the name of a file.
    base: String,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Mirror {
    /// Reads a URL. Those of the public network are refused unless `public` says otherwise.
    ///
    /// # Errors
    /// See [`MirrorError`].
    pub fn parse(url: &str, public: bool) -> Result<Mirror, MirrorError> {
        let malformed = |why| MirrorError::Malformed {
            url: url.to_owned(),
            why,
        };
        if authority(url).contains('@') {
            return Err(MirrorError::Password);
        }
        if url.contains(['?', '#']) {
            return Err(malformed("it names a directory, without ? and #"));
        }
        let origin = Origin::of(url).map_err(malformed)?;
        if origin.is_public() && !public {
            return Err(MirrorError::Public {
                url: url.to_owned(),
                host: origin.host,
            });
        }
        Ok(Mirror {
            origin,
            base: format!("{}/", url.trim_end_matches('/')),
        })
    }

    /// Where a file is. Its name needs no escapes, see [`super::name`].
    pub fn url(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }

    /// The directory.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether another URL is answered by the same server.
    pub fn is_same_origin(&self, url: &str) -> bool {
        !authority(url).contains('@') && Origin::of(url).as_ref() == Ok(&self.origin)
    }
}

/// What stands between the scheme and the path.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest)
}

impl Origin {
    /// Stricter than a URL may be: what is read here is what libcurl reads.
    fn of(url: &str) -> Result<Origin, &'static str> {
        let parsed: Uri = url.parse().map_err(|_| "it is no URL")?;
        let scheme = parsed.scheme_str().unwrap_or_default().to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err("it has to begin with http:// or https://"),
        };
        let host = parsed.host().unwrap_or_default().to_ascii_lowercase();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_plain) {
            return Err("it names no host");
        }
        let is_port = |(_, port): (&str, &str)| port.parse::<u16>().is_ok();
        let after = authority(url).get(host.len()..).unwrap_or_default();
        if !after.is_empty() && !after.split_once(':').is_some_and(is_port) {
            return Err("its port is no number up to 65535");
        }
        Ok(Origin {
            port: parsed.port_u16().unwrap_or(usual),
            host: host.trim_end_matches('.').to_owned(),
            scheme,
        })
    }

    fn is_public(&self) -> bool {
        let before = self.host.strip_suffix(PUBLIC);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_with_and_without_the_last_slash() {
        for url in ["http://m.example/clamav", "http://m.example/clamav/"] {
            let mirror = Mirror::parse(url, false).unwrap();
            assert_eq!(mirror.url("main.cvd"), "http://m.example/clamav/main.cvd");
        }
        let mirror = Mirror::parse("https://[::1]:8443", false).unwrap();
        assert_eq!(mirror.url("a.ndb"), "https://[::1]:8443/a.ndb");
    }

    #[test]
    fn the_public_network_is_known_however_it_is_written() {
        for host in [
            "database.clamav.net",
            "DATABASE.ClamAV.net",
            "clamav.net",
            "db.us.clamav.net.",
            "clamav.net:80",
        ] {
            let url = format!("http://{host}/");
            let refused = Mirror::parse(&url, false);
            assert!(matches!(refused, Err(MirrorError::Public { .. })), "{url}");
            assert!(Mirror::parse(&url, true).is_ok(), "{url}");
        }
        for other in ["notclamav.net", "clamav.net.example", "mirror"] {
            assert!(
                Mirror::parse(&format!("http://{other}/clamav.net"), false).is_ok(),
                "{other}"
            );
        }
    }

    #[test]
    fn what_others_might_read_otherwise_is_refused() {
        for url in [
            "",
            "mirror",
            "mirror/clamav",
            "ftp://mirror/",
            "file:///etc",
            "http:///clamav",
            "http://database%2eclamav.net/",
            "http://database.clamav.net\\@mirror/",
            "http://mirror/a b",
            "http://mirror/?x",
            "http://mirror/#x",
            "http://mirror:99999/",
            "http://mirror:/",
            "http://mirror\u{3002}example/",
        ] {
            assert!(Mirror::parse(url, false).is_err(), "{url}");
        }
        let with = "http://user:secret@mirror/";
        let error = Mirror::parse(with, true).unwrap_err();
        assert_eq!(error, MirrorError::Password);
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let mirror = Mirror::parse("http://Mirror.example/a/", false).unwrap();
        for same in [
            "http://mirror.example/b/main.cvd",
            "http://MIRROR.example.:80/",
        ] {
            assert!(mirror.is_same_origin(same), "{same}");
        }
        for other in [
            "https://mirror.example/",
            "http://mirror.example:81/",
            "http://other.example/",
            "http://mirror.example@other.example/",
            "http://x@mirror.example/",
            "/b",
            "",
        ] {
            assert!(!mirror.is_same_origin(other), "{other}");
        }
    }
}
