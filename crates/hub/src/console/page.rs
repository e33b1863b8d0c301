//! What every page has around it, and how a page says that something went wrong.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::api::refusal::Refusal;
use crate::console::assets;
use crate::state::HubState;
use crate::store::alerts;

/// The frame around a page.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The page's own title.
    pub title: String,
    /// Which entry of the navigation it belongs to.
    pub active: &'static str,
    /// How many alerts fire.
    pub firing: i64,
    /// True if signing out makes sense.
    pub signed_in: bool,
    /// The program's version.
    pub version: &'static str,
    /// Which version of the style and script files, so that a browser never mixes two.
    pub assets: &'static str,
}

impl Frame {
    /// The frame of a page of a hub.
    pub async fn of(state: &HubState, title: &str, active: &'static str) -> Result<Frame, Refusal> {
        let firing = alerts::firing(&state.readers).await?.iter().map(|(_, count)| count).sum();
        let signed_in = !state.access.is_open();
        Ok(Frame { firing, signed_in, ..Frame::bare(title, active) })
    }

    /// A frame that asks the store nothing.
    pub fn bare(title: &str, active: &'static str) -> Frame {
        Frame {
            title: title.to_owned(),
            active,
            firing: 0,
            signed_in: false,
            version: env!("CARGO_PKG_VERSION"),
            assets: assets::version(),
        }
    }
}

/// Renders a page.
pub fn render(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => ([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response(),
        Err(error) => {
            // Writing to a String does not fail; a template that does is our own mistake.
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage<'a> {
    frame: Frame,
    message: &'a str,
    mend: &'a str,
}

/// A [`Refusal`] as a page.
#[derive(Debug)]
pub struct PageRefusal(Refusal);

impl From<Refusal> for PageRefusal {
    fn from(refusal: Refusal) -> PageRefusal {
        PageRefusal(refusal)
    }
}

impl IntoResponse for PageRefusal {
    fn into_response(self) -> Response {
        let title = match self.0.status() {
            StatusCode::NOT_FOUND => "Not here",
            status if status.is_client_error() => "Not like that",
            _ => "Not now",
        };
        let page =
            RefusalPage { frame: Frame::bare(title, ""), message: self.0.message(), mend: self.0.mend() };
        let mut response = render(&page);
        *response.status_mut() = self.0.status();
        response
    }
}
