//! What is known of machines that execute runs and that this process does not reach itself.

/// A cache on machines of which this process cannot list and remove caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteCache {
    /// The name of its volume, on each machine that has it.
    pub volume: String,
    /// The machine of the newest run of its repository, if it is known.
    pub machine: Option<String>,
}

/// A machine that executes runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorNode {
    /// What `StartSpec::node` names it by.
    pub id: String,
    /// No other one has the same.
    pub name: String,
    /// Whether the scheduler hears from it.
    pub is_ready: bool,
    /// Whether it may be given runs now.
    pub is_usable: bool,
    /// Whether its engine is the appliance's own.
    pub is_own: bool,
    /// Its state in the scheduler's words.
    pub state: String,
    /// How many tasks are running on it, those of others included.
    pub tasks: usize,
    /// CPUs in thousandths.
    pub milli_cpus: u64,
    /// In bytes.
    pub memory: u64,
    /// The version of its engine.
    pub engine: String,
}
