//! `[kafka.tls]` and `[kafka.sasl]`: how brokers are recognised, and how they recognise the service.

use std::fs::File;
use std::path::{Path, PathBuf};

use scan_pipeline::config::properties::security;
use scan_pipeline::config::{
    ClientCertificate, Properties, SaslConfig, SaslMechanism, Secret, SecretSource, TlsConfig,
};

use super::Environment;
use super::checked::Check;
use super::raw::{RawSasl, RawTls};

impl Check<'_> {
    pub(super) fn tls(&mut self, raw: RawTls, environment: &Environment) -> Option<TlsConfig> {
        const ENABLE: &str = "set kafka.tls.enabled = true, or leave it out";
        let files = [
            ("kafka.tls.ca_file", &raw.ca_file),
            ("kafka.tls.certificate_file", &raw.certificate_file),
            ("kafka.tls.key_file", &raw.key_file),
            ("kafka.tls.key_password_file", &raw.key_password_file),
            (
                "kafka.tls.key_password_variable",
                &raw.key_password_variable,
            ),
        ];
        let enabled = raw.enabled.unwrap_or(false);
        for (path, value) in files {
            self.require(
                enabled || value.is_none(),
                path,
                || "TLS is not enabled".to_owned(),
                ENABLE,
            );
        }
        self.require(
            enabled || raw.verify_hostname.is_none_or(|verify| verify),
            "kafka.tls.verify_hostname",
            || "TLS is not enabled".to_owned(),
            ENABLE,
        );
        if !enabled {
            return None;
        }
        for (path, value) in &files[..3] {
            if let Some(file) = value {
                self.readable(path, Path::new(file));
            }
        }
        let key_password = self.secret(
            "kafka.tls.key_password",
            raw.key_password_file,
            raw.key_password_variable,
            environment,
        );
        let client = match (raw.certificate_file, raw.key_file) {
            (Some(certificate), Some(key)) => Some(ClientCertificate {
                certificate_file: certificate.into(),
                key_file: key.into(),
                key_password,
            }),
            (None, None) => {
                self.require(
                    key_password.is_none(),
                    "kafka.tls.key_file",
                    || "not set, but there is a password for it".to_owned(),
                    "set it, or leave the password out",
                );
                None
            }
            (certificate, _) => {
                let missing = match certificate {
                    None => "kafka.tls.certificate_file",
                    Some(_) => "kafka.tls.key_file",
                };
                self.require(
                    false,
                    missing,
                    || "a certificate and its key go together, and this is not set".to_owned(),
                    "set it",
                );
                None
            }
        };
        Some(TlsConfig {
            ca_file: raw.ca_file.map(PathBuf::from),
            client,
            verify_hostname: raw.verify_hostname.unwrap_or(true),
        })
    }

    pub(super) fn sasl(&mut self, raw: RawSasl, environment: &Environment) -> Option<SaslConfig> {
        let mechanism = raw.mechanism.unwrap_or(SaslMechanism::None);
        if mechanism == SaslMechanism::None {
            let settings = [
                ("kafka.sasl.username", &raw.username),
                ("kafka.sasl.password_file", &raw.password_file),
                ("kafka.sasl.password_variable", &raw.password_variable),
            ];
            for (path, value) in settings {
                self.require(
                    value.is_none(),
                    path,
                    || "no SASL mechanism is set".to_owned(),
                    "set kafka.sasl.mechanism, or leave it out",
                );
            }
            return None;
        }
        let username = raw.username.unwrap_or_default();
        self.require(
            !username.is_empty(),
            "kafka.sasl.username",
            || "empty".to_owned(),
            "name the user",
        );
        let is_given = raw.password_file.is_some() || raw.password_variable.is_some();
        self.require(
            is_given,
            "kafka.sasl.password_file",
            || "neither this nor kafka.sasl.password_variable is set".to_owned(),
            "say where the password is",
        );
        let password = self.secret(
            "kafka.sasl.password",
            raw.password_file,
            raw.password_variable,
            environment,
        )?;
        Some(SaslConfig {
            mechanism,
            username,
            password,
        })
    }

    /// One decides: the sections here or the properties of librdkafka.
    pub(super) fn undecided(&mut self, is_secured: bool, properties: &Properties) {
        for name in properties.keys() {
            let Some(remedy) = security(name) else {
                continue;
            };
            self.require(
                !is_secured,
                &format!("kafka.properties.{name}"),
                || {
                    "kafka.tls and kafka.sasl are in use, and decide alone how brokers are reached"
                        .to_owned()
                },
                remedy,
            );
        }
    }

    fn secret(
        &mut self,
        path: &str,
        file: Option<String>,
        variable: Option<String>,
        environment: &Environment,
    ) -> Option<Secret> {
        let (by_file, by_variable) = (format!("{path}_file"), format!("{path}_variable"));
        self.require(
            file.is_none() || variable.is_none(),
            &by_file,
            || format!("set, and {by_variable} is set too"),
            "leave one of them out",
        );
        let (path, source) = match (file, variable) {
            (Some(file), _) => (by_file, SecretSource::File(file.into())),
            (None, Some(name)) => (by_variable, SecretSource::Variable(name)),
            (None, None) => return None,
        };
        let secret = Secret::read(source, environment);
        if let Err(what) = &secret {
            self.require(
                false,
                &path,
                || what.clone(),
                "correct it, or what it names",
            );
        }
        secret.ok()
    }

    fn readable(&mut self, path: &str, file: &Path) {
        if let Err(error) = File::open(file) {
            self.require(
                false,
                path,
                || format!("{} cannot be read: {error}", file.display()),
                "correct the path or the file's permissions",
            );
        }
    }
}
