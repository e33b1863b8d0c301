//! Keys that knock with a certificate of this hub's own authority and that its table does not know: they came in after the backup
//! that the hub was restored from. They are let in by nobody but an admin; here it is remembered who knocked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use wire::hash::Hash;
use wire::id::NodeId;
use wire::world::WallMs;
use x509_parser::extensions::GeneralName;

use crate::identity::ca::Ca;
use crate::store::recovery::StrangerRow;

/// The most that are remembered; whoever knocks later is remembered when there is room.
const STRANGERS_MAX: usize = 10_000;

/// Who knocked.
#[derive(Debug, Default)]
pub struct Strangers {
    /// Tells certificates of this hub's authority from others.
    ours: Option<Arc<dyn ClientCertVerifier>>,
    seen: Mutex<HashMap<Hash, Knock>>,
}

#[derive(Debug)]
struct Knock {
    row: StrangerRow,
    is_stored: bool,
}

impl Strangers {
    /// Of an authority; without one nobody knocks.
    pub fn of(ca: Option<&Ca>) -> Result<Strangers, rustls::Error> {
        let Some(ca) = ca else { return Ok(Strangers::default()) };
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate().clone())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Strangers { ours: Some(verifier), seen: Mutex::default() })
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Hash, Knock>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody showed this certificate, and the table does not know its key.
    pub fn knock(&self, key: Hash, shown: &CertificateDer<'_>, now_ms: WallMs) {
        let mut seen = self.seen();
        if let Some(knock) = seen.get_mut(&key) {
            knock.row.seen_ms = now_ms;
            return;
        }
        if seen.len() >= STRANGERS_MAX {
            return;
        }
        if let Some(row) = self.read(key, shown, now_ms) {
            tracing::warn!(node = row.name, %key, "a key of this hub's authority knocks that its table does not know");
            seen.insert(key, Knock { row, is_stored: false });
        }
    }

    /// Those that are not stored yet.
    pub fn news(&self) -> Vec<StrangerRow> {
        let seen = self.seen();
        seen.values().filter(|knock| !knock.is_stored).map(|knock| knock.row.clone()).collect()
    }

    /// They are stored now.
    pub fn stored(&self, rows: &[StrangerRow]) {
        let mut seen = self.seen();
        for row in rows {
            if let Some(knock) = seen.get_mut(&row.key) {
                knock.is_stored = true;
            }
        }
    }

    /// They are strangers no more, or shall be looked at anew.
    pub fn forget(&self) {
        self.seen().clear();
    }

    /// What a certificate says, if it is one of ours. Whether it has run out does not matter: by it alone a node may renew.
    fn read(&self, key: Hash, shown: &CertificateDer<'_>, now_ms: WallMs) -> Option<StrangerRow> {
        let (_, certificate) = x509_parser::parse_x509_certificate(shown).ok()?;
        let (from_s, until_s) =
            (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        let while_it_counted = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(until_s).ok()?));
        self.ours.as_ref()?.verify_client_cert(shown, &[], while_it_counted).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let uri = names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("selvedge://node/"),
            _ => None,
        });
        let name = NodeId::new(uri?).ok()?;
        Some(StrangerRow {
            key,
            name: name.to_string(),
            serial: certificate.raw_serial_as_string(),
            not_before_ms: from_s.saturating_mul(1000),
            not_after_ms: until_s.saturating_mul(1000),
            seen_ms: now_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use package::trust::eckey::EcKey;
    use wire::world::Simulated;

    use super::*;
    use crate::identity::ca::spki;

    #[test]
    fn only_certificates_of_our_own_authority_knock() {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Simulated::new(1);
        let now_ms = 1_800_000_000_000;
        let ours = Ca::open_or_make(&folder.path().join("a"), &mut world, now_ms).unwrap();
        let theirs = Ca::open_or_make(&folder.path().join("b"), &mut world, now_ms).unwrap();
        let strangers = Strangers::of(Some(&ours)).unwrap();
        let mut shown = |ca: &Ca| {
            let (certificate, _): (_, EcKey) =
                ca.server(&["localhost".to_owned()], now_ms, &mut world).unwrap();
            certificate
        };
        // A server's certificate is no node's, whoever made it.
        for certificate in [shown(&ours), shown(&theirs)] {
            let key = Hash::of(&spki(&certificate).unwrap());
            strangers.knock(key, &certificate, now_ms);
        }
        strangers.knock(Hash::of(b"noise"), &CertificateDer::from(vec![0x30; 40]), now_ms);
        assert!(strangers.news().is_empty());
    }
}
