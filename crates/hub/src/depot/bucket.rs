//! A bucket of a store that speaks S3, as the settings name it.
//!
//! Who we are there stands in the environment, as Amazon's own tools have it, or in a file as they write it; never in an address.

use std::io;
use std::path::PathBuf;

use object_store::Error;

/// A bucket that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// Something for which this program was not built.
    #[error("this program was built without S3: use one that was built with it, or set `folder` in [depot]")]
    NoS3,
    /// The settings do not go together.
    #[error(
        "the bucket cannot be used; check [depot.s3] in the hub's config, and what begins with AWS_ in its environment"
    )]
    Settings(#[source] Error),
    /// The file of credentials cannot be read.
    #[error("cannot read the credentials_file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file of credentials has none.
    #[error("{} has no aws_access_key_id and aws_secret_access_key below [default]", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
}

#[cfg(feature = "s3")]
pub(super) use with::open;

#[cfg(not(feature = "s3"))]
pub(super) fn open(
    _config: &crate::config::S3Config,
) -> Result<std::sync::Arc<dyn object_store::ObjectStore>, BucketError> {
    Err(BucketError::NoS3)
}

#[cfg(feature = "s3")]
mod with {
    use std::fs::File;
    use std::io::Read as _;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
    use object_store::prefix::PrefixStore;
    use object_store::{ClientConfigKey, ObjectStore, RetryConfig, StaticCredentialProvider};

    use super::BucketError;
    use crate::config::S3Config;

    /// A large blob takes as long as it takes, if something of it comes; a store that is silent for so long is none.
    const WHOLE: &str = "7 days";
    const SILENCE: &str = "2 minutes";

    /// How long a request is tried again. Those who wait for it have 40 s.
    const AGAIN: Duration = Duration::from_secs(30);

    /// The longest file of credentials.
    const FILE_MAX_BYTES: u64 = 64 << 10;

    pub(in crate::depot) fn open(config: &S3Config) -> Result<Arc<dyn ObjectStore>, BucketError> {
        let retry = RetryConfig { max_retries: 5, retry_timeout: AGAIN, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&config.bucket)
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), WHOLE)
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ReadTimeout), SILENCE)
            .with_retry(retry);
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(path) = &config.credentials_file {
            let credential = read(path)?;
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
        }
        let bucket = builder.build().map_err(BucketError::Settings)?;
        Ok(Arc::new(PrefixStore::new(bucket, config.prefix.as_str())))
    }

    fn read(path: &Path) -> Result<AwsCredential, BucketError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(FILE_MAX_BYTES).read_to_string(&mut text))
            .map_err(|source| BucketError::File { path: path.to_owned(), source })?;
        credential(&text).ok_or_else(|| BucketError::NoKey { path: path.to_owned() })
    }

    /// What stands below `[default]`, as `aws configure` writes it.
    fn credential(text: &str) -> Option<AwsCredential> {
        let (mut key_id, mut secret_key, mut token) = (None, None, None);
        let mut is_ours = true;
        for line in text.lines().map(str::trim) {
            if let Some(profile) = line.strip_prefix('[') {
                is_ours = profile.trim_end_matches(']').trim() == "default";
            } else if let Some((name, value)) = line.split_once('=').filter(|_| is_ours) {
                let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
                match name.trim() {
                    "aws_access_key_id" => key_id = value,
                    "aws_secret_access_key" => secret_key = value,
                    "aws_session_token" => token = value,
                    _ => {}
                }
            }
        }
        Some(AwsCredential { key_id: key_id?, secret_key: secret_key?, token })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn files_of_credentials() {
            fn check(text: &str, expected: Option<(&str, &str, Option<&str>)>) {
                let found = credential(text);
                let found = found.as_ref().map(|c| (&*c.key_id, &*c.secret_key, c.token.as_deref()));
                assert_eq!(found, expected, "{text}");
            }
            let two = "aws_access_key_id = A\naws_secret_access_key=b/c=\n";
            check(two, Some(("A", "b/c=", None)));
            check(&format!("[other]\n{two}"), None);
            check(
                &format!("[other]\naws_session_token = x\n[default]\n# said so\n{two}aws_session_token = t"),
                Some(("A", "b/c=", Some("t"))),
            );
            check("[default]\naws_access_key_id = A\naws_secret_access_key =\n", None);
            check("", None);
        }
    }
}
