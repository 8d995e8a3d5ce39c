;; What quire runs after each push. `quire ci check` checks this file, `quire ci run`
;; runs it here, on the files as they are now.
(local ci (require :quire.ci))

;; The image that every command runs in: Debian with make, compilers and git.
(ci.image "buildpack-deps:trixie")

;; The commands of a job stop at the first one that fails.
(ci.job :build [:quire/push]
  (fn [{: sh}]
    (sh ["make"])))

;; A job after it:
;;
;; (ci.job :test [:build]
;;   (fn [{: sh}]
;;     (sh ["make" "test"])))
