//! A call that the hub holds until it has news for this node. It only rings a bell for an ordinary check-in, so that dropping
//! it loses nothing; and records go up meanwhile, since it has a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use wire::checkin::CheckInAnswer;
use wire::id::NodeId;

use super::hub::Hub;

/// The longest that a call is held, whatever the hub says.
const HOLD_MOST: Duration = Duration::from_secs(600);

/// Between two held calls. What happens meanwhile is told by the second.
const PAUSE: Duration = Duration::from_secs(1);

/// At most one held call.
#[derive(Debug, Default)]
pub(super) struct Ear {
    call: JoinSet<()>,
    bell: Arc<Notify>,
}

impl Ear {
    /// Waits until the hub has called.
    pub(super) async fn called(&self) {
        self.bell.notified().await;
    }

    /// Listens as long as the answer to a check-in allows it; begins only if it does not listen already.
    pub(super) fn listen(&mut self, hub: &Arc<Hub>, node: &NodeId, answer: &CheckInAnswer) {
        while self.call.try_join_next().is_some() {}
        if answer.poll_ms == 0 {
            self.call.abort_all();
            return;
        }
        if !self.call.is_empty() {
            return;
        }
        let hold = Duration::from_millis(answer.poll_ms).min(HOLD_MOST);
        let revision = answer.desired.as_ref().map_or(0, |desired| desired.revision);
        let (hub, node, bell) = (hub.clone(), node.clone(), self.bell.clone());
        self.call.spawn(async move {
            loop {
                match hub.wait(&node, revision, hold).await {
                    Ok(true) => return bell.notify_one(),
                    Ok(false) => tokio::time::sleep(PAUSE).await,
                    Err(failure) => {
                        // The next answer says whether to listen again.
                        tracing::debug!(%failure, "the hub does not hold the call");
                        return;
                    }
                }
            }
        });
    }
}
