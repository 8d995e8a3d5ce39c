(local ci (require :quire.ci))
(ci.jbo :test [:quire/push] (fn [{: sh}] (sh "make test")))
