;; What quire runs after each push. `quire ci check` checks this file, `quire ci run`
;; runs it here, on the files as they are now.
(local ci (require :quire.ci))

;; The image that every command runs in.
(ci.image "golang:1")

;; Two jobs that wait only for the push, so they run at the same time.
(ci.job :lint [:quire/push]
  (fn [{: sh}]
    (sh ["go" "vet" "./..."])
    ;; Lists the files that gofmt would change, and fails where there are any.
    (sh "test -z \"$(gofmt -l . | tee /dev/stderr)\"")))

(ci.job :test [:quire/push]
  (fn [{: sh}]
    (sh ["go" "test" "./..."])))

;; A job after both, on one branch only:
;;
;; (ci.job :build [:lint :test] {:timeout "10m"}
;;   (fn [{: sh : jobs}]
;;     (let [push (jobs :quire/push)]
;;       (when (= push.branch "main")
;;         (sh ["go" "build" "./..."])))))
