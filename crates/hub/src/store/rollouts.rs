//! Rollouts as rows: the plan, which never changes; the documents that follow from it, as they were signed; where the
//! rollout stands; and each node that was offered it.
//!
//! A rollout's row is only replaced by somebody who has seen the one before: its revision says so.

use sqlx::{AssertSqlSafe, Row};
use wire::hash::Hash;
use wire::world::WallMs;

use crate::rollout::member::{Member, Standing};
use crate::store::connection::{Readers, StoredRow, Writer};

/// A rollout's row, and its plan's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRow {
    /// The plan's id.
    pub id: String,
    /// The plan, as it is hashed.
    pub plan: String,
    /// Where it stands, as JSON.
    pub state: String,
    /// Whether it may still hand something out.
    pub active: bool,
    /// When the plan came here.
    pub made_ms: WallMs,
    /// When the row last changed.
    pub changed_ms: WallMs,
}

/// What stands in a rollout's row from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewState<'a> {
    /// Its revision.
    pub revision: u64,
    /// The word for its phase.
    pub phase: &'static str,
    /// Whether it may still hand something out.
    pub active: bool,
    /// The open wave.
    pub wave: u32,
    /// All of it, as JSON.
    pub state: &'a str,
    /// When.
    pub changed_ms: WallMs,
}

/// A document as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentRow {
    /// Its id: the plan's, or that of its canaries.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Since when it may be handed out.
    pub released_ms: Option<WallMs>,
}

const SELECT: &str = "SELECT r.id, p.body AS plan, r.state, r.active, p.made_ms, r.changed_ms FROM rollouts r JOIN plans p ON p.id = r.id";

/// What a plan is of: rollouts and experiments lie in the same tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A rollout.
    Rollout,
    /// An experiment.
    Experiment,
}

impl Of {
    fn as_str(self) -> &'static str {
        match self {
            Of::Rollout => "rollout",
            Of::Experiment => "experiment",
        }
    }
}

/// Takes in a plan and its rollout; false if the plan was here already.
pub async fn add(writer: &mut Writer, id: &str, plan: &str, new: &NewState<'_>) -> Result<bool, sqlx::Error> {
    add_of(writer, Of::Rollout, id, plan, new).await
}

/// Takes in a plan and its rollout or experiment; false if the plan was here already.
pub async fn add_of(
    writer: &mut Writer,
    of: Of,
    id: &str,
    plan: &str,
    new: &NewState<'_>,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO plans (id, body, kind, made_ms) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
    );
    let added =
        query.bind(id).bind(plan).bind(of.as_str()).bind(new.changed_ms).execute(&mut *writer).await?;
    if added.rows_affected() == 0 {
        return Ok(false);
    }
    let query = sqlx::query(
        "INSERT INTO rollouts (id, revision, phase, active, wave, state, changed_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    );
    let query = query.bind(id).bind(new.revision as i64).bind(new.phase).bind(i64::from(new.active));
    query.bind(i64::from(new.wave)).bind(new.state).bind(new.changed_ms).execute(writer).await?;
    Ok(true)
}

/// Replaces a rollout's state if its revision is still `seen`; false if it is not.
pub async fn swap(writer: &mut Writer, id: &str, seen: u64, new: &NewState<'_>) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "UPDATE rollouts SET revision = $3, phase = $4, active = $5, wave = $6, state = $7, changed_ms = $8 \
         WHERE id = $1 AND revision = $2",
    );
    let query = query.bind(id).bind(seen as i64).bind(new.revision as i64).bind(new.phase);
    let query = query.bind(i64::from(new.active)).bind(i64::from(new.wave)).bind(new.state);
    Ok(query.bind(new.changed_ms).execute(writer).await?.rows_affected() == 1)
}

/// Those that may still hand something out.
pub async fn active(writer: &mut Writer, of: Of) -> Result<Vec<RolloutRow>, sqlx::Error> {
    let sql = format!("{SELECT} WHERE r.active = 1 AND p.kind = $1 ORDER BY p.made_ms, r.id");
    sqlx::query(AssertSqlSafe(sql))
        .bind(of.as_str())
        .fetch_all(writer)
        .await?
        .iter()
        .map(rollout_row)
        .collect()
}

/// One of them, for whoever writes.
pub async fn find(writer: &mut Writer, of: Of, id: &str) -> Result<Option<RolloutRow>, sqlx::Error> {
    let sql = format!("{SELECT} WHERE r.id = $1 AND p.kind = $2");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id).bind(of.as_str()).fetch_optional(writer).await?;
    row.as_ref().map(rollout_row).transpose()
}

/// One rollout.
pub async fn get(readers: &Readers, id: &str) -> Result<Option<RolloutRow>, sqlx::Error> {
    get_of(readers, Of::Rollout, id).await
}

/// One of them.
pub async fn get_of(readers: &Readers, of: Of, id: &str) -> Result<Option<RolloutRow>, sqlx::Error> {
    let sql = format!("{SELECT} WHERE r.id = $1 AND p.kind = $2");
    let row = sqlx::query(AssertSqlSafe(sql)).bind(id).bind(of.as_str()).fetch_optional(readers).await?;
    row.as_ref().map(rollout_row).transpose()
}

/// Rollouts, the newest plan first, behind the one `after`.
pub async fn list(
    readers: &Readers,
    phase: Option<&str>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<RolloutRow>, sqlx::Error> {
    list_of(readers, Of::Rollout, phase, after, limit).await
}

/// Rollouts or experiments, the newest plan first, behind the one `after`.
pub async fn list_of(
    readers: &Readers,
    of: Of,
    phase: Option<&str>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<RolloutRow>, sqlx::Error> {
    let behind = "AND (p.made_ms, r.id) < ((SELECT made_ms FROM plans WHERE id = $4), $4) ";
    let behind = if after.is_some() { behind } else { "" };
    let sql = format!(
        "{SELECT} WHERE p.kind = $3 AND ($1 = '' OR r.phase = $1) {behind}ORDER BY p.made_ms DESC, r.id DESC LIMIT $2"
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(phase.unwrap_or_default()).bind(limit);
    query = query.bind(of.as_str());
    if let Some(after) = after {
        query = query.bind(after);
    }
    query.fetch_all(readers).await?.iter().map(rollout_row).collect()
}

fn rollout_row(row: &StoredRow) -> Result<RolloutRow, sqlx::Error> {
    Ok(RolloutRow {
        id: row.try_get("id")?,
        plan: row.try_get("plan")?,
        state: row.try_get("state")?,
        active: row.try_get::<i64, _>("active")? != 0,
        made_ms: row.try_get("made_ms")?,
        changed_ms: row.try_get("changed_ms")?,
    })
}

/// Keeps a document as it was signed, in the place of one that was signed otherwise.
pub async fn put_document(
    writer: &mut Writer,
    plan: &str,
    document: &DocumentRow,
    until_ms: WallMs,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO documents (plan, id, version, body, until_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (id, version) DO UPDATE SET body = excluded.body",
    )
    .bind(plan)
    .bind(&document.id)
    .bind(i64::from(document.version))
    .bind(document.body.as_slice())
    .bind(until_ms)
    .execute(writer)
    .await?;
    Ok(())
}

/// From now on a document may be handed out.
pub async fn release(writer: &mut Writer, id: &str, version: u32, now_ms: WallMs) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "UPDATE documents SET released_ms = COALESCE(released_ms, $3) WHERE id = $1 AND version = $2",
    );
    query.bind(id).bind(i64::from(version)).bind(now_ms).execute(writer).await?;
    Ok(())
}

const DOCUMENTS: &str =
    "SELECT id, version, body, released_ms FROM documents WHERE plan = $1 ORDER BY version, id";

/// The signed documents of a plan, for whoever writes.
pub async fn documents(writer: &mut Writer, plan: &str) -> Result<Vec<DocumentRow>, sqlx::Error> {
    sqlx::query(DOCUMENTS).bind(plan).fetch_all(writer).await?.iter().map(document_row).collect()
}

/// The signed documents of a plan.
pub async fn read_documents(readers: &Readers, plan: &str) -> Result<Vec<DocumentRow>, sqlx::Error> {
    sqlx::query(DOCUMENTS).bind(plan).fetch_all(readers).await?.iter().map(document_row).collect()
}

fn document_row(row: &StoredRow) -> Result<DocumentRow, sqlx::Error> {
    Ok(DocumentRow {
        id: row.try_get("id")?,
        version: row.try_get::<i64, _>("version")? as u32,
        body: row.try_get("body")?,
        released_ms: row.try_get("released_ms")?,
    })
}

/// Keeps where a member stands. `record`: the record that says so, if one does.
pub async fn put_member(
    writer: &mut Writer,
    rollout: &str,
    node: i64,
    member: &Member,
    record: Option<i64>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO members (rollout, node, wave, standing, version, done, offered_ms, changed_ms, why, \
         kernel_same, record) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (rollout, node) DO UPDATE SET standing = excluded.standing, version = excluded.version, \
         done = excluded.done, changed_ms = excluded.changed_ms, why = excluded.why, \
         kernel_same = excluded.kernel_same, record = COALESCE(excluded.record, members.record)",
    )
    .bind(rollout)
    .bind(node)
    .bind(i64::from(member.wave))
    .bind(member.standing.as_str())
    .bind(i64::from(member.version))
    .bind(i64::from(member.done))
    .bind(member.offered_ms)
    .bind(member.changed_ms)
    .bind(member.why.replace('\0', ""))
    .bind(member.kernel_same.map(i64::from))
    .bind(record)
    .execute(writer)
    .await?;
    Ok(())
}

/// All members of a rollout, by the node's number.
pub async fn members(writer: &mut Writer, rollout: &str) -> Result<Vec<(i64, Member)>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT node, wave, standing, version, done, offered_ms, changed_ms, why, kernel_same FROM members \
         WHERE rollout = $1",
    );
    let read = |row: &StoredRow| Ok((row.try_get("node")?, member_of(row)?));
    query.bind(rollout).fetch_all(writer).await?.iter().map(read).collect()
}

/// A member as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// The node's name.
    pub node: String,
    /// Where it stands.
    pub member: Member,
    /// Where the record that says so stands: journal, stream, sequence number.
    pub record: Option<(String, String, i64)>,
}

/// Members of a rollout by name, behind the name `after`; of one standing, or of all.
pub async fn list_members(
    readers: &Readers,
    rollout: &str,
    standing: Option<Standing>,
    after: &str,
    limit: i64,
) -> Result<Vec<MemberRow>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT n.name AS node, m.wave, m.standing, m.version, m.done, m.offered_ms, m.changed_ms, m.why, \
         m.kernel_same, j.name AS journal, s.name AS stream, r.seq FROM members m JOIN nodes n ON n.id = m.node \
         LEFT JOIN records r ON r.id = m.record LEFT JOIN streams s ON s.id = r.stream \
         LEFT JOIN journals j ON j.id = s.journal \
         WHERE m.rollout = $1 AND ($2 = '' OR m.standing = $2) AND n.name > $3 ORDER BY n.name LIMIT $4",
    );
    let read = |row: &StoredRow| {
        let journal: Option<String> = row.try_get("journal")?;
        let stream: Option<String> = row.try_get("stream")?;
        let seq: Option<i64> = row.try_get("seq")?;
        let record = journal.zip(stream).zip(seq).map(|((journal, stream), seq)| (journal, stream, seq));
        Ok(MemberRow { node: row.try_get("node")?, member: member_of(row)?, record })
    };
    let query = query.bind(rollout).bind(standing.map_or("", Standing::as_str)).bind(after).bind(limit);
    query.fetch_all(readers).await?.iter().map(read).collect()
}

fn member_of(row: &StoredRow) -> Result<Member, sqlx::Error> {
    let standing: String = row.try_get("standing")?;
    let unreadable = || sqlx::Error::Decode(format!("the store holds a member that is {standing:?}").into());
    Ok(Member {
        wave: row.try_get::<i64, _>("wave")? as u32,
        standing: Standing::parse(&standing).ok_or_else(unreadable)?,
        version: row.try_get::<i64, _>("version")? as u32,
        done: row.try_get::<i64, _>("done")? as u8,
        offered_ms: row.try_get("offered_ms")?,
        changed_ms: row.try_get("changed_ms")?,
        why: row.try_get("why")?,
        kernel_same: row.try_get::<Option<i64>, _>("kernel_same")?.map(|same| same != 0),
    })
}

/// A node refuses a release, by the digest of its index.
pub async fn refuse(
    writer: &mut Writer,
    node: i64,
    model: &str,
    index: &str,
    why: &str,
    now_ms: WallMs,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO refused (model, release_index, node, why, at_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (release_index, node) DO NOTHING",
    );
    let why: String = why.chars().filter(|c| *c != '\0').take(500).collect();
    query.bind(model).bind(index).bind(node).bind(why).bind(now_ms).execute(writer).await?;
    Ok(())
}

/// Which releases nodes refused: `(node, index)`.
pub async fn refused(writer: &mut Writer) -> Result<Vec<(i64, String)>, sqlx::Error> {
    let rows = sqlx::query("SELECT node, release_index FROM refused").fetch_all(writer).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// What a node shall do changed, or how often it failed lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeState {
    /// The number of the last change to what it shall do.
    pub revision: u64,
    /// How many releases it failed without a success in between.
    pub failures: u32,
    /// Until when it is offered nothing new for that.
    pub box_until_ms: WallMs,
    /// In which ways it knows more than this hub, if it does.
    pub conflict: Option<String>,
}

/// Keeps a node's state.
pub async fn put_node(writer: &mut Writer, node: i64, state: &NodeState) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "UPDATE nodes SET revision = $2, box = $3, box_until_ms = $4, conflict = $5 WHERE id = $1",
    );
    let query = query.bind(node).bind(state.revision as i64).bind(i64::from(state.failures));
    query.bind(state.box_until_ms).bind(&state.conflict).execute(writer).await?;
    Ok(())
}

/// A node as rollouts need it when the hub starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// When it was last heard of.
    pub seen_ms: WallMs,
    /// Whether it is silent.
    pub silent: bool,
    /// See [`NodeState`].
    pub state: NodeState,
    /// What it says it is, as JSON.
    pub facts: Option<String>,
    /// Its last check-in, as it was sent.
    pub checkin: Option<String>,
}

const NODES: &str = "SELECT id, name, last_seen_ms, silent, revision, box, box_until_ms, conflict, facts, checkin \
     FROM nodes WHERE id > $1 ORDER BY id LIMIT $2";

/// Nodes by their numbers, behind `after`: a page, since each brings its last check-in.
pub async fn nodes(writer: &mut Writer, after: i64, limit: i64) -> Result<Vec<NodeRow>, sqlx::Error> {
    let read = |row: &StoredRow| {
        Ok(NodeRow {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            seen_ms: row.try_get("last_seen_ms")?,
            silent: row.try_get::<i64, _>("silent")? != 0,
            state: NodeState {
                revision: row.try_get::<i64, _>("revision")? as u64,
                failures: row.try_get::<i64, _>("box")? as u32,
                box_until_ms: row.try_get("box_until_ms")?,
                conflict: row.try_get("conflict")?,
            },
            facts: row.try_get("facts")?,
            checkin: row.try_get("checkin")?,
        })
    };
    sqlx::query(NODES).bind(after).bind(limit).fetch_all(writer).await?.iter().map(read).collect()
}

/// What a node says it is, as JSON.
pub async fn facts(writer: &mut Writer, node: i64) -> Result<Option<String>, sqlx::Error> {
    let query = sqlx::query("SELECT facts FROM nodes WHERE id = $1").bind(node);
    query.fetch_one(writer).await?.try_get(0)
}

/// The hub's id; `new` becomes it if it has none.
pub async fn hub_id(writer: &mut Writer, new: &str) -> Result<String, sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO words (name, value) VALUES ('hub', $1) ON CONFLICT (name) DO UPDATE SET value = words.value \
         RETURNING value",
    );
    query.bind(new).fetch_one(writer).await?.try_get(0)
}

/// Keeps the index of a release that goes about, so that whoever writes need not ask the depot.
pub async fn put_index(writer: &mut Writer, digest: &Hash, index: &str) -> Result<(), sqlx::Error> {
    let query = sqlx::query("INSERT INTO words (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING");
    query.bind(format!("index {digest}")).bind(index).execute(writer).await?;
    Ok(())
}

/// The index of a release that goes about, if it was kept.
pub async fn index(writer: &mut Writer, digest: &Hash) -> Result<Option<String>, sqlx::Error> {
    let query = sqlx::query("SELECT value FROM words WHERE name = $1").bind(format!("index {digest}"));
    query.fetch_optional(writer).await?.map(|row| row.try_get(0)).transpose()
}
