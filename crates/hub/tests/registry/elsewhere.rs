//! The same registry, its packages in a bucket: hubs come and go, and what they keep stays.

use hub::config::HubConfig;

use crate::bucket::Bucket;
use crate::pushing::{Client, Package, hub, repo};
use crate::{manifests, pull, tuf};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_in_a_bucket() {
    let Some(bucket) = Bucket::start() else { return };
    let at = |prefix: &str| {
        let depot = bucket.depot(prefix);
        move |config: &mut HubConfig| config.depot = depot
    };
    pull::comes_back(at("comes-back")).await;
    pull::parts(at("parts")).await;
    manifests::whole_or_not(at("whole")).await;
    manifests::tags(at("tags")).await;
    manifests::referrers(at("referrers")).await;
    tuf::find_published(at("tuf/found")).await;
    tuf::refuse(at("tuf/refused")).await;
    tuf::assignments(at("assignments")).await;

    // Two hubs, one bucket: what the one took the other serves.
    let ((one, _a), (two, _b)) = (hub(at("shared")).await, hub(at("shared")).await);
    let package = Package::new("smollm2", 7, 9 << 20);
    Client::of(&one).push(&repo("smollm2"), "7", &package).await;
    let index = Client::of(&two).get("/v2/smollm2/manifests/7").await;
    assert_eq!(index.bytes().await.unwrap(), package.index);
    assert_eq!(Client::of(&two).push_blob(&repo("smollm2"), &package.blobs[1], 4 << 20).await, 0);
    one.stop().await;
    two.stop().await;
}
