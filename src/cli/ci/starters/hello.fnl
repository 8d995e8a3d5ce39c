(local ci (require :quire.ci))
(ci.job :hello [:quire/push] (fn [{: sh}] (sh "echo Hello from $QUIRE_REPO, at $QUIRE_SHA")))
