//! The messages of BuildKit's protocols, as far as quire sends or reads them. Fields that are not listed here are skipped by
//! the decoder. Names and numbers are those of BuildKit's `.proto` files, which each module names.

use std::collections::HashMap;

/// A message without fields, or of which no field is read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Empty {}

/// `api/services/control/control.proto`: builds and their progress.
pub(crate) mod control {
    use super::HashMap;
    use super::policy::Policy;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ControlSolveRequest {
        #[prost(string, tag = "1")]
        pub(crate) reference: String,
        #[prost(string, tag = "3")]
        pub(crate) exporter: String,
        #[prost(map = "string, string", tag = "4")]
        pub(crate) exporter_attrs: HashMap<String, String>,
        #[prost(string, tag = "5")]
        pub(crate) session: String,
        #[prost(message, optional, tag = "12")]
        pub(crate) source_policy: Option<Policy>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct StatusRequest {
        #[prost(string, tag = "1")]
        pub(crate) reference: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct StatusResponse {
        #[prost(message, repeated, tag = "1")]
        pub(crate) vertexes: Vec<Vertex>,
        #[prost(message, repeated, tag = "3")]
        pub(crate) logs: Vec<VertexLog>,
    }

    /// A step of a build.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Vertex {
        #[prost(string, tag = "1")]
        pub(crate) digest: String,
        #[prost(string, tag = "3")]
        pub(crate) name: String,
        #[prost(bool, tag = "4")]
        pub(crate) cached: bool,
        #[prost(message, optional, tag = "5")]
        pub(crate) started: Option<super::Empty>,
        #[prost(message, optional, tag = "6")]
        pub(crate) completed: Option<super::Empty>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct VertexLog {
        #[prost(string, tag = "1")]
        pub(crate) vertex: String,
        #[prost(bytes = "vec", tag = "4")]
        pub(crate) message: Vec<u8>,
    }
}

/// `sourcepolicy/pb/policy.proto`: what a build may fetch.
pub(crate) mod policy {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Policy {
        #[prost(int64, tag = "1")]
        pub(crate) version: i64,
        /// The last rule that matches a source holds.
        #[prost(message, repeated, tag = "2")]
        pub(crate) rules: Vec<Rule>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Rule {
        #[prost(enumeration = "Action", tag = "1")]
        pub(crate) action: i32,
        #[prost(message, optional, tag = "2")]
        pub(crate) selector: Option<Selector>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
    #[repr(i32)]
    pub(crate) enum Action {
        Allow = 0,
        Deny = 1,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Selector {
        #[prost(string, tag = "1")]
        pub(crate) identifier: String,
        #[prost(enumeration = "MatchType", tag = "2")]
        pub(crate) match_type: i32,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
    #[repr(i32)]
    pub(crate) enum MatchType {
        Wildcard = 0,
        Exact = 1,
        Regex = 2,
    }
}

/// `frontend/gateway/pb/gateway.proto`: a frontend's view of a build.
pub(crate) mod gateway {
    use super::HashMap;
    use super::definition::Definition;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SolveRequest {
        #[prost(string, tag = "2")]
        pub(crate) frontend: String,
        #[prost(map = "string, string", tag = "3")]
        pub(crate) frontend_opt: HashMap<String, String>,
        #[prost(bool, tag = "5")]
        pub(crate) allow_result_return: bool,
        #[prost(bool, tag = "6")]
        pub(crate) allow_result_array_ref: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SolveResponse {
        #[prost(message, optional, tag = "3")]
        pub(crate) result: Option<Result>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Result {
        #[prost(message, optional, tag = "3")]
        pub(crate) single: Option<Ref>,
        #[prost(message, optional, tag = "4")]
        pub(crate) several: Option<RefMap>,
        #[prost(map = "string, bytes", tag = "10")]
        pub(crate) metadata: HashMap<String, Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Ref {
        #[prost(string, tag = "1")]
        pub(crate) id: String,
        #[prost(message, optional, tag = "2")]
        pub(crate) definition: Option<Definition>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct RefMap {
        #[prost(map = "string, message", tag = "1")]
        pub(crate) refs: HashMap<String, Ref>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ReturnRequest {
        #[prost(message, optional, tag = "1")]
        pub(crate) result: Option<Result>,
    }
}

/// `solver/pb/ops.proto`: the operations that a Dockerfile was made into.
pub(crate) mod definition {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Definition {
        /// Each is an encoded [`Op`].
        #[prost(bytes = "vec", repeated, tag = "1")]
        pub(crate) operations: Vec<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Op {
        #[prost(message, optional, tag = "2")]
        pub(crate) exec: Option<ExecOp>,
        #[prost(message, optional, tag = "3")]
        pub(crate) source: Option<SourceOp>,
        /// A nested definition, which the frontend for Dockerfiles never makes.
        #[prost(message, optional, tag = "5")]
        pub(crate) build: Option<super::Empty>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ExecOp {
        #[prost(int32, tag = "3")]
        pub(crate) network: i32,
    }

    /// [`ExecOp::network`] of a command without a network.
    pub(crate) const NETWORK_NONE: i32 = 2;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SourceOp {
        #[prost(string, tag = "1")]
        pub(crate) identifier: String,
    }
}

/// `grpc/health/v1/health.proto`.
pub(crate) mod health {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct CheckResponse {
        #[prost(int32, tag = "1")]
        pub(crate) status: i32,
    }

    pub(crate) const SERVING: i32 = 1;
}

/// `types/wire.proto` and `types/stat.proto` of fsutil: the transfer of a folder.
pub(crate) mod files {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct FilePacket {
        #[prost(enumeration = "PacketKind", tag = "1")]
        pub(crate) kind: i32,
        #[prost(message, optional, tag = "2")]
        pub(crate) stat: Option<Stat>,
        /// The place of a file in the list of all entries that were sent.
        #[prost(uint32, tag = "3")]
        pub(crate) id: u32,
        #[prost(bytes = "vec", tag = "4")]
        pub(crate) data: Vec<u8>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
    #[repr(i32)]
    pub(crate) enum PacketKind {
        /// An entry of the folder; without one, their end.
        Stat = 0,
        /// The receiver wants the content of a file.
        Request = 1,
        /// A piece of a file; an empty one is its end.
        Data = 2,
        End = 3,
        Error = 4,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Stat {
        #[prost(string, tag = "1")]
        pub(crate) path: String,
        /// As Go's `os.FileMode`.
        #[prost(uint32, tag = "2")]
        pub(crate) mode: u32,
        #[prost(int64, tag = "5")]
        pub(crate) size: i64,
        /// In nanoseconds since 1970.
        #[prost(int64, tag = "6")]
        pub(crate) modified: i64,
        #[prost(string, tag = "7")]
        pub(crate) link: String,
    }
}
