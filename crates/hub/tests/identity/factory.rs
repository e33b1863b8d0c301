//! Devices that come in by the certificate that their maker gave them.

use hub::config::nodes::FactoryConfig;
use package::trust::eckey::{EcKey, wrap};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer};
use reqwest::Method;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use wire::world::Simulated;

use crate::door::{Device, Own, Stand, told, word};

struct Maker {
    issuer: Issuer<'static, Own>,
    pem: String,
}

impl Maker {
    fn new(seed: u64) -> Maker {
        let key = Own(EcKey::draw(&mut Simulated::new(seed)));
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a maker");
        let pem = wrap("CERTIFICATE", params.self_signed(&key).unwrap().der());
        Maker { issuer: Issuer::new(params, key), pem }
    }

    /// A device as it leaves the factory.
    fn makes(&self, serial: &str, seed: u64) -> (CertificateDer<'static>, EcKey) {
        let key = Own(EcKey::draw(&mut Simulated::new(seed)));
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::from_oid(&[2, 5, 4, 5]), serial);
        params.distinguished_name.push(DnType::CommonName, "selvedge://node/itself");
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (certificate, key.0)
    }
}

/// Asks to come in with a new key, showing the maker's certificate.
async fn comes(stand: &Stand, made: &(CertificateDer<'static>, EcKey), device: &Device) -> (u16, Value) {
    let client = stand.client(Some((&made.0, &made.1)));
    let ask = json!({ "csr": device.csr(), "name": "whatever" });
    let url = format!("{}/api/v1/enrol", stand.nodes_url());
    told(client.post(url).json(&ask).send().await.unwrap()).await
}

#[tokio::test]
async fn a_device_comes_in_once_by_its_maker_s_word() {
    let folder = tempfile::tempdir().unwrap();
    let (maker, other) = (Maker::new(71), Maker::new(72));
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("maker.pem"), &maker.pem).unwrap();
    std::fs::write(path("allowed.txt"), "A-1\nA-2\n").unwrap();
    let factory =
        FactoryConfig { ca: path("maker.pem"), serials: path("allowed.txt"), name: "sn-{serial}".into() };
    let list = factory.serials.clone();
    let stand = Stand::set(1, folder, |config| config.identity.factory.push(factory)).await;
    let no = |status: u16, code: &str| (status, code.to_owned());

    let (first, second, unlisted) = (maker.makes("A-1", 81), maker.makes("A-2", 82), maker.makes("A-9", 83));
    let mut device = Device::new(1);
    let (status, answer) = comes(&stand, &first, &device).await;
    assert_eq!((status, &answer["node"]), (201, &json!("sn-a-1")), "{answer}");
    assert_eq!(comes(&stand, &first, &device).await.0, 201, "an answer that was lost");
    assert_eq!(word(comes(&stand, &first, &Device::new(2)).await), no(403, "serial-used"));
    assert_eq!(word(comes(&stand, &unlisted, &Device::new(2)).await), no(403, "serial-unknown"));
    std::fs::write(&list, "A-9\n").unwrap();
    assert_eq!(comes(&stand, &unlisted, &Device::new(3)).await.0, 201, "the list is read each time");
    assert_eq!(word(comes(&stand, &second, &Device::new(4)).await), no(403, "serial-unknown"));

    // A maker's certificate opens nothing but this, and a maker's key is none of a node.
    let url = format!("{}/api/v1/checkin", stand.nodes_url());
    let client = stand.client(Some((&first.0, &first.1)));
    assert_eq!(word(told(client.post(url).json(&json!({})).send().await.unwrap()).await).0, 401);
    std::fs::write(&list, "A-2\n").unwrap();
    let same_key = Device { key: Own(EcKey::read(&second.1.pem()).unwrap()), certificate: None };
    assert_eq!(word(comes(&stand, &second, &same_key).await), no(403, "maker-unknown"));
    // Nor does what the hub itself issued count as a maker's, and a stranger's not at all.
    device.take(&answer["certificate"]);
    let own = (device.certificate.clone().unwrap(), EcKey::read(&device.key.0.pem()).unwrap());
    assert_eq!(word(comes(&stand, &own, &Device::new(5)).await), no(403, "maker-unknown"));
    let stranger = other.makes("A-2", 84);
    let client = stand.client(Some((&stranger.0, &stranger.1)));
    assert!(client.post(format!("{}/api/v1/enrol", stand.nodes_url())).send().await.is_err());
    let nobody = stand.client(None).post(format!("{}/api/v1/enrol", stand.nodes_url()));
    let nobody = nobody.json(&json!({ "csr": Device::new(6).csr() })).send().await.unwrap();
    assert_eq!(word(told(nobody).await), no(403, "maker-unknown"));

    let (_, keys) = stand.ask(&stand.admin, Method::GET, "/api/v1/keys", None).await;
    assert_eq!(keys.as_array().unwrap().len(), 2);
    stand.hub.stop().await;
}
